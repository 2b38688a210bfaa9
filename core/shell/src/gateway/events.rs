//! The events of the systems that Roomcast replaces, as methods of a gateway's handle.

use roomcast_core::event::{self, Event};
use roomcast_core::message::{Json, Outgoing};
use serde::Serialize;
use serde_json::value::to_raw_value;

use super::{Gateway, Stored};
use crate::transport::Transport;

/// What [`Gateway::publish`] returns, unless the data of the event cannot be written as JSON.
pub type Emitted = serde_json::Result<(Box<str>, Stored)>;

/// The table of methods: name, and the event that is published with the names of what it is generic over.
macro_rules! helpers {
    ($($method:ident($event:ident<$($data:ident),*>);)+) => {$(
        #[doc = concat!("Publishes a [`", stringify!($event), "`](event::", stringify!($event), ").")]
        ///
        /// # Errors
        /// Data that cannot be written as JSON: nothing is published.
        pub fn $method<$($data: Serialize),*>(&self, event: &event::$event<'_, $($data),*>) -> Emitted {
            self.emit(event)
        }
    )+};
}

/// Events of systems B, C, D and E; any other is published with [`Gateway::emit`].
impl<T: Transport> Gateway<T> {
    /// Publishes an event to each of its rooms, on all nodes.
    ///
    /// # Errors
    /// Data that cannot be written as JSON: nothing is published.
    pub fn emit(&self, event: &impl Event) -> Emitted {
        let data = to_raw_value(event)?;
        let message = Outgoing { kind: event.kind(), data: Json::from(&*data), timestamp: None, message_id: None };
        Ok(self.publish_to(&event.rooms(), &message, &event.fields()))
    }

    /// Publishes a message to all connections of a user; it is kept for them while they are away.
    ///
    /// # Errors
    /// Data that cannot be written as JSON: nothing is published.
    pub fn send_direct_message(&self, user: &str, kind: &str, data: &impl Serialize) -> Emitted {
        self.emit(&event::DirectMessage { user_id: user, kind, data })
    }

    /// Publishes a message to a project.
    ///
    /// # Errors
    /// Data that cannot be written as JSON: nothing is published.
    pub fn send_project_message(&self, project: &str, kind: &str, data: &impl Serialize) -> Emitted {
        self.emit(&event::ProjectMessage { project_id: project, kind, data })
    }

    /// Publishes a message to everybody who is connected.
    ///
    /// # Errors
    /// Data that cannot be written as JSON: nothing is published.
    pub fn broadcast(&self, kind: &str, data: &impl Serialize) -> Emitted {
        self.emit(&event::Broadcast { kind, data })
    }

    /// Publishes how a task is doing, to its room.
    ///
    /// # Errors
    /// Data that cannot be written as JSON: nothing is published.
    pub fn publish_task_update(&self, task: &str, data: &impl Serialize) -> Emitted {
        self.emit(&event::TaskUpdate { task_id: task, data })
    }

    /// Publishes news for everybody, to the room `global`.
    ///
    /// # Errors
    /// Data that cannot be written as JSON: nothing is published.
    pub fn publish_general_update(&self, data: &impl Serialize) -> Emitted {
        self.emit(&event::GeneralUpdate { data })
    }

    /// Publishes what happens in a job, to its room.
    ///
    /// # Errors
    /// Data that cannot be written as JSON: nothing is published.
    pub fn send_update(&self, job: &str, kind: &str, data: &impl Serialize) -> Emitted {
        self.emit(&event::JobUpdate { job_id: job, kind, data })
    }

    helpers! {
        notify_task_created(TaskCreated<D>);
        notify_task_updated(TaskUpdated<C, D>);
        notify_task_deleted(TaskDeleted<>);
        notify_project_updated(ProjectChanged<C, D>);
        notify_status_changed(StatusChanged<>);
        broadcast_project_updated(ProjectUpdated<C>);
        broadcast_project_deleted(ProjectDeleted<>);
        broadcast_agent_status_changed(AgentStatusChanged<M>);
        broadcast_agent_connected(AgentConnected<M>);
        broadcast_agent_disconnected(AgentDisconnected<M>);
        broadcast_workflow_started(WorkflowStarted<M>);
        broadcast_workflow_progress(WorkflowProgress<L, E>);
        broadcast_workflow_completed(WorkflowCompleted<M>);
        broadcast_workflow_failed(WorkflowFailed<M>);
        broadcast_pr_created(PrCreated<>);
        broadcast_pr_updated(PrUpdated<>);
        broadcast_pr_closed(PrClosed<M>);
        broadcast_issue_created(IssueCreated<M>);
        broadcast_issue_updated(IssueUpdated<>);
        broadcast_issue_closed(IssueClosed<M>);
        broadcast_ai_suggestion(AiSuggestion<M>);
        broadcast_ai_analysis_complete(AiAnalysisComplete<M>);
    }
}
