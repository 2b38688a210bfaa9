//! System D's job streams: what publishers write into a stream for each job, and clients on the path of a job.

use bytes::Bytes;
use roomcast_core::id::StreamId;
use roomcast_core::store::Fields;

use super::{ClientNumber, World};

impl World {
    /// A client with a token connects to the path of a job.
    pub fn connect_job(&mut self, node: usize, user: &str, job: &str) -> ClientNumber {
        let number = self.open(node, &format!("/ws/jobs/{job}"), Some(user));
        self.clients[number.0].bound = Some(room(job));
        number
    }

    /// A publisher adds an update to the stream of a job.
    pub fn job_update(&mut self, job: &str) -> StreamId {
        let fields = self.next_update();
        self.oracles.watch_job(job);
        let id = self.memory.add(self.now, &key(job), fields);
        self.after_store();
        id
    }

    /// The same under an identifier that the publisher has chosen.
    pub fn job_update_as(&mut self, job: &str, id: StreamId) {
        let fields = self.next_update();
        self.oracles.watch_job(job);
        self.memory.add_as(self.now, &key(job), id, fields);
        self.after_store();
    }

    /// A publisher adds what is no update.
    pub fn job_nonsense(&mut self, job: &str, field: &str, text: &str) {
        self.memory.add(
            self.now,
            &key(job),
            vec![(Bytes::copy_from_slice(field.as_bytes()), Bytes::copy_from_slice(text.as_bytes()))],
        );
        self.after_store();
    }

    /// A publisher deletes the stream of a job.
    pub fn delete_job(&mut self, job: &str) {
        self.memory.delete(&key(job));
        self.oracles.forget_job(job);
    }

    /// A publisher's trimming leaves so many updates.
    pub fn trim_job(&mut self, job: &str, keep: usize) {
        self.memory.trim(&key(job), keep);
    }

    /// Another type of value stands in the place of a job's stream, or does no longer.
    pub fn set_job_refused(&mut self, job: &str, is_refused: bool) {
        self.memory.set_refused(&key(job), is_refused);
    }

    /// Whether there is a stream of this job.
    pub fn has_job(&self, job: &str) -> bool {
        self.memory.exists(&key(job))
    }

    fn next_update(&mut self) -> Fields {
        let number = self.next_number();
        let update = format!(r#"{{"timestamp":"2025-07-14T15:54:56.123456","type":"note","data":{{"n":{number}}}}}"#);
        vec![(Bytes::from_static(b"message"), update.into())]
    }
}

pub(super) fn key(job: &str) -> String {
    format!("job:updates:{job}")
}

pub(super) fn room(job: &str) -> String {
    format!("job:{job}")
}
