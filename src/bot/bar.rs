//! Shows the progress of a run on a terminal.

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

/// A line that is written anew each second, and removed at the end. If the output is no terminal, nothing is
/// written.
pub(super) struct ProgressLine<W: Write> {
    out: Option<W>,
    /// The second that the line shows.
    shown: Option<u64>,
}

impl ProgressLine<io::Stderr> {
    /// Returns a line on standard error.
    pub(super) fn on_stderr() -> Self {
        let err = io::stderr();
        let is_terminal = err.is_terminal();
        Self::new(is_terminal.then_some(err))
    }
}

impl<W: Write> ProgressLine<W> {
    fn new(out: Option<W>) -> Self {
        Self { out, shown: None }
    }

    /// Shows that `joined` of `clients` bots have joined `now` after the start of a run of `duration`.
    pub(super) fn show(&mut self, now: Duration, duration: Duration, joined: u64, clients: usize) {
        let second = now.min(duration).as_secs();
        let Some(out) = self.out.as_mut().filter(|_| self.shown != Some(second)) else { return };
        self.shown = Some(second);
        let of = duration.as_secs();
        // A terminal that takes no output does not end the run.
        let _ = write!(out, "{CLEAR}{second} of {of} s, {joined} of {clients} bots have joined");
        let _ = out.flush();
    }
}

impl<W: Write> Drop for ProgressLine<W> {
    fn drop(&mut self) {
        if let Some(out) = self.out.as_mut().filter(|_| self.shown.is_some()) {
            let _ = write!(out, "{CLEAR}");
            let _ = out.flush();
        }
    }
}

/// Moves the cursor to the start of the line, and clears the line.
const CLEAR: &str = "\r\x1b[K";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_written_once_a_second_and_removed_at_the_end() {
        let mut written = Vec::new();
        let mut line = ProgressLine::new(Some(&mut written));

        for now in [0, 400, 1_200, 1_900, 2_500] {
            line.show(Duration::from_millis(now), Duration::from_secs(2), now / 400, 6);
        }
        drop(line);

        let lines = ["0 of 2 s, 0 of 6", "1 of 2 s, 3 of 6", "2 of 2 s, 6 of 6"];
        let expected = lines.map(|line| format!("{CLEAR}{line} bots have joined")).concat() + CLEAR;
        assert_eq!(String::from_utf8_lossy(&written), expected);
    }
}
