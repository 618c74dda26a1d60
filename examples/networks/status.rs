//! What a server's status line says of links and sessions.

/// The links and sessions that a status line counts, those of which there are none left out; none if
/// it is another line.
pub(crate) fn left_of(line: &str) -> Option<Vec<String>> {
    let fields = line.split(' ').filter_map(|field| field.split_once('='));
    let found: Vec<(&str, &str)> = fields.filter(|(name, _)| COUNTS.contains(name)).collect();
    if found.len() < COUNTS.len() {
        return None;
    }
    let left = found.into_iter().filter(|(name, value)| !is_zero(name, value));
    Some(left.map(|(name, value)| format!("{name}={value}")).collect())
}

/// Whether a count is zero; that of links is one for each proxy, like `udp:0,quic:0`.
fn is_zero(name: &str, value: &str) -> bool {
    if name == "links" { value.split(',').all(|links| links.ends_with(":0")) } else { value == "0" }
}

/// The names of the counts of what players have at a server.
const COUNTS: [&str; 4] = ["connected", "active", "disconnected", "links"];
