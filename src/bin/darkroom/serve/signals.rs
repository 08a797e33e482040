//! The system's wish that the server ends: Ctrl-C, and where there is one the terminate signal. Handlers are installed
//! before anything else is done, because a process that is the first of its container has no others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use darkroom::{Error, Result};
use tokio::sync::watch;

use crate::exit_code;

#[cfg(unix)]
mod platform {
    use tokio::signal::unix::{Signal, SignalKind, signal};

    pub struct Wishes(Signal, Signal);

    impl Wishes {
        pub fn new() -> std::io::Result<Self> {
            Ok(Wishes(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
        }

        /// Waits for the next one.
        pub async fn next(&mut self) {
            std::future::poll_fn(|cx| {
                let (interrupt, terminate) = (self.0.poll_recv(cx), self.1.poll_recv(cx));
                if interrupt.is_ready() { interrupt } else { terminate }
            })
            .await;
        }
    }
}

#[cfg(windows)]
mod platform {
    use tokio::signal::windows::{CtrlC, ctrl_c};

    pub struct Wishes(CtrlC);

    impl Wishes {
        pub fn new() -> std::io::Result<Self> {
            Ok(Wishes(ctrl_c()?))
        }

        /// Waits for the next one.
        pub async fn next(&mut self) {
            self.0.recv().await;
        }
    }
}

/// Whether the server has been asked to end.
pub struct Signals {
    is_serving: Arc<AtomicBool>,
    asked: watch::Receiver<bool>,
}

impl Signals {
    /// Begins to listen, on a thread of its own. Until [`Signals::serve`] the first signal ends the process.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn install() -> Result<Self> {
        let (ask, asked) = watch::channel(false);
        let is_serving = Arc::new(AtomicBool::new(false));
        let serving = Arc::clone(&is_serving);
        let (installed, is_installed) = std::sync::mpsc::channel();
        let listen = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let wishes = runtime.and_then(|runtime| {
                let wishes = runtime.block_on(async { platform::Wishes::new() })?;
                Ok((runtime, wishes))
            });
            let (runtime, mut wishes) = match wishes {
                Ok(wishes) => wishes,
                // Whoever started this waits for it.
                Err(error) => return installed.send(Err(error)).unwrap_or(()),
            };
            installed.send(Ok(())).ok();
            runtime.block_on(async {
                loop {
                    wishes.next().await;
                    if !serving.load(Ordering::Relaxed) || ask.send_replace(true) {
                        log::warn!("{}", Error::Cancelled);
                        std::process::exit(exit_code(&Error::Cancelled).into());
                    }
                }
            });
        };
        let failed = |source| Error::Io { path: "the signal handlers".into(), source };
        std::thread::Builder::new().name("signals".into()).spawn(listen).map_err(failed)?;
        let ended = || Err(std::io::Error::other("their thread ended"));
        is_installed.recv().unwrap_or_else(|_| ended()).map_err(failed)?;
        Ok(Signals { is_serving, asked })
    }

    /// From here on the first signal is answered in order, and the second ends the process.
    pub fn serve(&self) {
        self.is_serving.store(true, Ordering::Relaxed);
    }

    /// Waits for the first signal.
    pub async fn asked(&mut self) {
        // The sender lives as long as the process.
        self.asked.wait_for(|asked| *asked).await.ok();
    }
}
