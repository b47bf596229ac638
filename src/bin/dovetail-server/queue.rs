//! Where requests wait for the engine's thread, in order.

use crate::error::ApiError;
use crate::job::{Job, Pending, Wanted};
use dovetail::Request;
use std::sync::Mutex;
use tokio::sync::mpsc;

/// The requests' end of the queue.
pub struct Queue {
    /// `None` once the server ends.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    room: usize,
}

impl Queue {
    /// A queue in which `room` requests can wait, and the thread's end of it.
    pub fn new(room: usize) -> (Queue, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(room);
        (Queue { jobs: Mutex::new(Some(sender)), room }, receiver)
    }

    /// Adds all requests or none, and returns the receiving ends.
    ///
    /// # Errors
    /// If there is no room for them, or the server ends.
    pub fn add(&self, requests: Vec<Request>, wanted: Wanted) -> Result<Vec<Pending>, ApiError> {
        let jobs = self.jobs.lock().expect("nobody panics with it");
        let jobs = jobs.as_ref().ok_or_else(ApiError::ending)?;
        if requests.len() > self.room {
            let (n, room) = (requests.len(), self.room);
            let what = format!("{n} answers at once; at most {room} can wait; ask for fewer");
            return Err(ApiError::invalid(what).about("n"));
        }
        let places = jobs.try_reserve_many(requests.len()).map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => ApiError::busy(),
            mpsc::error::TrySendError::Closed(()) => ApiError::ending(),
        })?;
        let send = |(request, place): (Request, mpsc::Permit<Job>)| {
            let (job, pending) = Job::new(request, wanted);
            place.send(job);
            pending
        };
        Ok(requests.into_iter().zip(places).map(send).collect())
    }

    /// Adds a request once there is room for it.
    ///
    /// # Errors
    /// If the server ends.
    pub async fn add_when_room(
        &self,
        request: Request,
        wanted: Wanted,
    ) -> Result<Pending, ApiError> {
        let jobs = self.jobs.lock().expect("nobody panics with it").clone();
        let jobs = jobs.ok_or_else(ApiError::ending)?;
        let place = jobs.reserve().await.map_err(|_| ApiError::ending())?;
        let (job, pending) = Job::new(request, wanted);
        place.send(job);
        Ok(pending)
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        let jobs = self.jobs.lock().expect("nobody panics with it");
        jobs.as_ref().map_or(0, |jobs| jobs.max_capacity() - jobs.capacity())
    }

    /// Takes no more requests; the thread ends once it has answered those that wait.
    pub fn close(&self) {
        self.jobs.lock().expect("nobody panics with it").take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_as_a_whole() {
        let (queue, mut jobs) = Queue::new(3);
        let requests = |n: usize| vec![Request::new(vec![1], 1); n];
        let kept = queue.add(requests(2), Wanted::default()).unwrap();
        assert_eq!((kept.len(), queue.waiting()), (2, 2));
        assert_eq!(queue.add(requests(2), Wanted::default()).unwrap_err().status(), 429);
        assert_eq!(queue.add(requests(4), Wanted::default()).unwrap_err().status(), 400);
        assert_eq!(queue.waiting(), 2);
        assert!(jobs.try_recv().is_ok() && queue.add(requests(2), Wanted::default()).is_ok());
        queue.close();
        assert_eq!(queue.add(requests(1), Wanted::default()).unwrap_err().status(), 503);
    }
}
