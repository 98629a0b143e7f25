//! An answer that is given again for a moment, so that many who ask at once are one who asks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// The last answer.
#[derive(Debug)]
pub struct Fresh<T> {
    last: Arc<Mutex<Option<(Instant, T)>>>,
    good_for: Duration,
}

impl<T: Clone + Send + 'static> Fresh<T> {
    /// None yet; each will be good for so long.
    pub fn new(good_for: Duration) -> Fresh<T> {
        Fresh { last: Arc::default(), good_for }
    }

    /// The last answer, or what `ask` says if that is too old. `None`: asking ended in a bug.
    pub async fn get(&self, ask: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (last, good_for) = (self.last.clone(), self.good_for);
        // On its own: were it to end with a client who goes away, such clients would have it asked
        // again and again.
        let answer = tokio::spawn(async move {
            let mut last = last.lock().await;
            match &*last {
                Some((when, answer)) if when.elapsed() < good_for => answer.clone(),
                _ => {
                    let answer = ask.await;
                    *last = Some((Instant::now(), answer.clone()));
                    answer
                }
            }
        });
        answer.await.ok()
    }
}
