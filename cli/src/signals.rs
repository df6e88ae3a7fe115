//! How this process is told to end.

use tokio::signal::unix::{SignalKind, signal};

/// Returns at Ctrl-C or SIGTERM. Where one of them cannot be watched, the other still can.
pub(crate) async fn told_to_end() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}
