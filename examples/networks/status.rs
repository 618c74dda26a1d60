//! Reads the counts of links and sessions from a status line.

/// Returns the counts of links and sessions in a status line that are not zero, or `None` if the line is not a status
/// line.
pub(crate) fn left_of(line: &str) -> Option<Vec<String>> {
    let fields = line.split(' ').filter_map(|field| field.split_once('='));
    let found: Vec<(&str, &str)> = fields.filter(|(name, _)| COUNTS.contains(name)).collect();
    if found.len() < COUNTS.len() {
        return None;
    }
    let left = found.into_iter().filter(|(name, value)| !is_zero(name, value));
    Some(left.map(|(name, value)| format!("{name}={value}")).collect())
}

/// Returns true if a count is zero. The field `links` has a count for each proxy, like `udp:0,quic:0`.
fn is_zero(name: &str, value: &str) -> bool {
    if name == "links" { value.split(',').all(|links| links.ends_with(":0")) } else { value == "0" }
}

/// The fields of a status line that count links and sessions of players.
const COUNTS: [&str; 4] = ["connected", "active", "disconnected", "links"];
