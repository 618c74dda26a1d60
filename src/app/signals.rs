//! Handles the signals of the operating system.

use std::io;
use std::thread;

use anyhow::Context as _;
use tokio::runtime;

use crate::tick::StopHandle;

/// Starts a thread that handles signals until the process ends.
///
/// The first Ctrl-C or SIGTERM asks the server to stop. The second one ends the process at once. SIGHUP calls
/// `reload`, or asks the server to stop if the terminal that started it was closed.
pub(super) fn handle(stop: StopHandle, mut reload: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    let had_terminal = has_terminal();
    on_each(move |signal| match signal {
        Signal::HangUp if !had_terminal || has_terminal() => reload(),
        Signal::HangUp | Signal::Stop => {
            if !stop.stop() {
                std::process::exit(EXIT_INTERRUPTED);
            }
        }
    })
}

/// Starts a thread that calls `act` with each signal until the process ends.
pub(super) fn on_each(mut act: impl FnMut(Signal) + Send + 'static) -> anyhow::Result<()> {
    const CANNOT: &str = "cannot install the signal handlers";
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context(CANNOT)?;
    // The handlers are installed before this function returns.
    let mut signals = {
        let _context = runtime.enter();
        imp::Signals::new().context(CANNOT)?
    };
    let serve = move || {
        runtime.block_on(async {
            loop {
                act(signals.next().await);
            }
        })
    };
    thread::Builder::new().name("signals".to_owned()).spawn(serve).context(CANNOT)?;
    Ok(())
}

/// Returns true if the process has a terminal that is open.
fn has_terminal() -> bool {
    use io::IsTerminal as _;

    io::stdin().is_terminal() || io::stderr().is_terminal()
}

/// A signal of the operating system.
pub(super) enum Signal {
    /// SIGINT, SIGTERM, or Ctrl-C.
    Stop,
    /// SIGHUP.
    #[cfg_attr(not(unix), allow(dead_code, reason = "other systems have no such signal"))]
    HangUp,
}

#[cfg(unix)]
mod imp {
    use std::io;

    use tokio::signal::unix::{self, SignalKind, signal};

    pub(super) struct Signals {
        interrupt: unix::Signal,
        terminate: unix::Signal,
        hang_up: unix::Signal,
    }

    impl Signals {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hang_up: signal(SignalKind::hangup())?,
            })
        }

        pub(super) async fn next(&mut self) -> super::Signal {
            tokio::select! {
                _ = self.interrupt.recv() => super::Signal::Stop,
                _ = self.terminate.recv() => super::Signal::Stop,
                _ = self.hang_up.recv() => super::Signal::HangUp,
            }
        }
    }
}

#[cfg(windows)]
mod imp {
    use std::io;

    use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, ctrl_break, ctrl_c, ctrl_close};

    pub(super) struct Signals {
        c: CtrlC,
        end: CtrlBreak,
        close: CtrlClose,
    }

    impl Signals {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self { c: ctrl_c()?, end: ctrl_break()?, close: ctrl_close()? })
        }

        pub(super) async fn next(&mut self) -> super::Signal {
            tokio::select! {
                _ = self.c.recv() => super::Signal::Stop,
                _ = self.end.recv() => super::Signal::Stop,
                _ = self.close.recv() => super::Signal::Stop,
            }
        }
    }
}

/// The exit status of a process that was interrupted, as shells report it.
const EXIT_INTERRUPTED: i32 = 130;
