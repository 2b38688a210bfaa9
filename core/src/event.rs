//! The events of the systems that Roomcast replaces, typed: what a publisher inside the process says of its own accord.
//!
//! Events are not special on the wire, where any type and any data pass. This module knows their names, so that a publisher
//! cannot misspell them: each event is a struct whose fields are those of its data (PROTOCOL sections 2 and 4). What the publisher
//! forms itself, such as a task, is any type that can be written as JSON; what may be missing is then an `Option` or `()`,
//! and is written as `null`.
//!
//! ```
//! use roomcast_core::event::{Event, StatusChanged};
//!
//! let event = StatusChanged {
//!     entity_id: "t-1", entity_type: "task", old_status: "TODO", new_status: "DONE", project_id: "p-7",
//! };
//! assert_eq!((event.kind(), event.rooms()), ("status_changed", vec!["project:p-7".to_owned()]));
//! ```

use serde::Serialize;

use crate::hub::EVERYBODY;

/// The room of all that concerns everybody who asks for it.
pub const GLOBAL: &str = "global";

/// Something to be published. Its data is what it is written as: a publisher makes events of its own by implementing this.
///
/// ```
/// use roomcast_core::event::Event;
///
/// #[derive(serde::Serialize)]
/// struct Shipped { order: u64 }
///
/// impl Event for Shipped {
///     fn kind(&self) -> &str {
///         "order.shipped"
///     }
///
///     fn rooms(&self) -> Vec<String> {
///         vec![format!("order:{}", self.order)]
///     }
/// }
/// ```
pub trait Event: Serialize {
    /// Its type.
    fn kind(&self) -> &str;

    /// The rooms it goes to. Whoever is in several of them gets it from each, under one `message_id`. With none, nothing is
    /// published.
    fn rooms(&self) -> Vec<String>;

    /// Further fields of its envelope, beside the data. There are none by default.
    fn fields(&self) -> Vec<(&'static str, &str)> {
        Vec::new()
    }
}

/// The table of events: name, `=>` type, rooms and further fields of the envelope, and the fields of the data.
macro_rules! events {
    ($(
        $(#[$meta:meta])*
        $name:ident<$($generic:tt),+>($this:ident) => $kind:expr, [$($room:expr),+], [$($envelope:expr),*] {
            $($(#[$field_meta:meta])* $field:ident: $type:ty,)+
        }
    )+) => {$(
        #[derive(Clone, Copy, Debug, Serialize)]
        $(#[$meta])*
        pub struct $name<$($generic),+> {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        #[allow(unused_variables, reason = "what is the same of all events of a name does not ask the event")]
        impl<$($generic),+> Event for $name<$($generic),+>
        where
            $name<$($generic),+>: Serialize,
        {
            fn kind(&self) -> &str {
                let $this = self;
                $kind
            }

            fn rooms(&self) -> Vec<String> {
                let $this = self;
                [$($room),+].into_iter().flatten().collect()
            }

            fn fields(&self) -> Vec<(&'static str, &str)> {
                let $this = self;
                vec![$($envelope),*]
            }
        }
    )+};
}

// System B.
events! {
    /// B: a task was created.
    TaskCreated<'a, T>(event) => "task_created", [room("project", event.project_id)], [] {
        /// The task.
        task_id: &'a str,
        /// Its project, to which this goes.
        project_id: &'a str,
        /// The task as it is now.
        task: T,
    }

    /// B: a task was changed.
    TaskUpdated<'a, C, T>(event) => "task_updated", [room("project", event.project_id)], [] {
        /// The task.
        task_id: &'a str,
        /// Its project, to which this goes.
        project_id: &'a str,
        /// The fields that changed, each with `old` and `new`.
        changes: C,
        /// The task as it is now. B's front end reads its `id`.
        task: T,
    }

    /// B: a task was deleted.
    TaskDeleted<'a>(event) => "task_deleted", [room("project", event.project_id)], [] {
        /// The task.
        task_id: &'a str,
        /// Its project, to which this goes.
        project_id: &'a str,
    }

    /// B: a project was changed.
    ProjectChanged<'a, C, P>(event) => "project_updated", [room("project", event.project_id)], [] {
        /// The project, to which this goes.
        project_id: &'a str,
        /// The fields that changed, each with `old` and `new`.
        changes: C,
        /// The project as it is now.
        project: P,
    }

    /// B: the status of something was changed.
    StatusChanged<'a>(event) => "status_changed", [room("project", event.project_id)], [] {
        /// What it is the status of.
        entity_id: &'a str,
        /// What that is: `task`, `project` or `worktree`.
        entity_type: &'a str,
        /// The status before.
        old_status: &'a str,
        /// The status now.
        new_status: &'a str,
        /// The project, to which this goes.
        project_id: &'a str,
    }

    /// B: a message of any type to all connections of a user, kept for them while they are away.
    #[serde(transparent)]
    DirectMessage<'a, T>(event) => event.kind, [room("user", event.user_id)], [] {
        /// The user.
        #[serde(skip)]
        user_id: &'a str,
        /// The type.
        #[serde(skip)]
        kind: &'a str,
        /// The data.
        data: T,
    }

    /// B: a message of any type to a project.
    #[serde(transparent)]
    ProjectMessage<'a, T>(event) => event.kind, [room("project", event.project_id)], [] {
        /// The project.
        #[serde(skip)]
        project_id: &'a str,
        /// The type.
        #[serde(skip)]
        kind: &'a str,
        /// The data.
        data: T,
    }

    /// B: a message of any type to everybody who is connected.
    #[serde(transparent)]
    Broadcast<'a, T>(event) => event.kind, [Some(EVERYBODY.to_owned())], [] {
        /// The type.
        #[serde(skip)]
        kind: &'a str,
        /// The data.
        data: T,
    }
}

// Systems C and D.
events! {
    /// C: how a task is doing, to its room. The envelope has a `task_id`, by which C's front end knows the task.
    #[serde(transparent)]
    TaskUpdate<'a, T>(event) => "task_update", [room("task", event.task_id)], [("task_id", event.task_id)] {
        /// The task.
        #[serde(skip)]
        task_id: &'a str,
        /// The data: `status` and what else is known.
        data: T,
    }

    /// C: news for everybody, to the room `global`.
    #[serde(transparent)]
    GeneralUpdate<T>(_event) => "general_update", [Some(GLOBAL.to_owned())], [] {
        /// The data.
        data: T,
    }

    /// D: what happens in a job, of any type, to its room.
    #[serde(transparent)]
    JobUpdate<'a, T>(event) => event.kind, [room("job", event.job_id)], [] {
        /// The job.
        #[serde(skip)]
        job_id: &'a str,
        /// The type, such as `file_completed`.
        #[serde(skip)]
        kind: &'a str,
        /// The data.
        data: T,
    }
}

// System E. Its envelopes say which service published them, where one does. Of the events that nobody published in E, only the
// identifiers are known: their rooms are those of their kin, and the rest of their data is the publisher's.
events! {
    /// E: a project was changed.
    ProjectUpdated<'a, C>(event) => "project.updated",
        [room("project", event.project_id), room("user", event.updated_by)], [("source", "project_service")] {
        /// The project, to which this goes.
        project_id: &'a str,
        /// Its name.
        project_name: &'a str,
        /// Where its repository is.
        repository_url: &'a str,
        /// Its status.
        status: &'a str,
        /// The user who did it, to whom this goes as well.
        updated_by: &'a str,
        /// The fields that changed.
        changes: C,
    }

    /// E: a project was deleted.
    ProjectDeleted<'a>(event) => "project.deleted",
        [room("project", event.project_id), room("user", event.deleted_by)], [] {
        /// The project, to which this goes.
        project_id: &'a str,
        /// The user who did it, to whom this goes as well.
        deleted_by: &'a str,
    }

    /// E: the status of an agent was changed.
    AgentStatusChanged<'a, M>(event) => "agent.status_changed",
        [room("agent", event.agent_id), Some(GLOBAL.to_owned())], [("source", "agent_service")] {
        /// The agent, to whose room and to `global` this goes.
        agent_id: &'a str,
        /// Its name.
        agent_name: &'a str,
        /// `online`, `offline`, `busy`, `idle` or `error`.
        status: &'a str,
        /// How much it can take on, from 0 to 100.
        availability: u8,
        /// When this was so, RFC 3339.
        timestamp: &'a str,
        /// What else is known, an object.
        metadata: M,
    }

    /// E: an agent has come.
    AgentConnected<'a, M>(event) => "agent.connected", [room("agent", event.agent_id), Some(GLOBAL.to_owned())], [] {
        /// The agent, to whose room and to `global` this goes.
        agent_id: &'a str,
        /// The rest of the data, an object.
        #[serde(flatten)]
        more: M,
    }

    /// E: an agent has gone.
    AgentDisconnected<'a, M>(event) => "agent.disconnected", [room("agent", event.agent_id), Some(GLOBAL.to_owned())], [] {
        /// The agent, to whose room and to `global` this goes.
        agent_id: &'a str,
        /// The rest of the data, an object.
        #[serde(flatten)]
        more: M,
    }

    /// E: a workflow has begun.
    WorkflowStarted<'a, M>(event) => "workflow.started", [project_or_global(event.project_id)], [] {
        /// The workflow.
        workflow_id: &'a str,
        /// The project that this goes to; without one, it goes to `global`.
        #[serde(skip)]
        project_id: Option<&'a str>,
        /// The rest of the data, an object.
        #[serde(flatten)]
        more: M,
    }

    /// E: how far a workflow has come.
    WorkflowProgress<'a, L, E>(event) => "workflow.progress", [project_or_global(event.project_id)], [("source", "workflow_service")] {
        /// The workflow.
        workflow_id: &'a str,
        /// The project that this goes to; without one, it goes to `global`.
        #[serde(skip)]
        project_id: Option<&'a str>,
        /// `pending`, `running`, `completed`, `failed` or `cancelled`.
        status: &'a str,
        /// How much is done, from 0 to 100.
        progress: u8,
        /// What is being done.
        current_step: &'a str,
        /// How many steps there are.
        total_steps: u32,
        /// How long it will still take, if that is known; E does not say in which unit.
        estimated_time_remaining: Option<u64>,
        /// What it has written.
        logs: L,
        /// What has gone wrong.
        errors: E,
    }

    /// E: a workflow has come to its end.
    WorkflowCompleted<'a, M>(event) => "workflow.completed", [project_or_global(event.project_id)], [] {
        /// The workflow.
        workflow_id: &'a str,
        /// The project that this goes to; without one, it goes to `global`.
        #[serde(skip)]
        project_id: Option<&'a str>,
        /// The rest of the data, an object.
        #[serde(flatten)]
        more: M,
    }

    /// E: a workflow has failed.
    WorkflowFailed<'a, M>(event) => "workflow.failed", [project_or_global(event.project_id)], [] {
        /// The workflow.
        workflow_id: &'a str,
        /// The project that this goes to; without one, it goes to `global`.
        #[serde(skip)]
        project_id: Option<&'a str>,
        /// The rest of the data, an object.
        #[serde(flatten)]
        more: M,
    }

    /// E: a pull request was opened.
    PrCreated<'a>(event) => "pr.created", [room("project", event.project_id)], [("source", "github_service")] {
        /// The pull request.
        pr_id: &'a str,
        /// Its project, to which this goes.
        project_id: &'a str,
        /// Its title.
        title: &'a str,
        /// What it says.
        description: Option<&'a str>,
        /// Who opened it.
        author: &'a str,
        /// The branch it is on.
        branch: &'a str,
        /// Where it is to be seen.
        github_url: &'a str,
        /// Its status.
        status: &'a str,
        /// When it was opened, RFC 3339.
        created_at: &'a str,
    }

    /// E: a pull request was changed.
    PrUpdated<'a>(event) => "pr.updated", [room("project", event.project_id)], [] {
        /// The pull request.
        pr_id: &'a str,
        /// Its project, to which this goes.
        project_id: &'a str,
        /// Its title.
        title: &'a str,
        /// Its status.
        status: &'a str,
    }

    /// E: a pull request was closed.
    PrClosed<'a, M>(event) => "pr.closed", [room("project", event.project_id)], [] {
        /// The pull request.
        pr_id: &'a str,
        /// Its project, to which this goes.
        project_id: &'a str,
        /// The rest of the data, an object.
        #[serde(flatten)]
        more: M,
    }

    /// E: an issue was opened.
    IssueCreated<'a, M>(event) => "issue.created", [room("project", event.project_id)], [] {
        /// The issue.
        issue_id: &'a str,
        /// Its project, to which this goes.
        project_id: &'a str,
        /// The rest of the data, an object.
        #[serde(flatten)]
        more: M,
    }

    /// E: an issue was changed.
    IssueUpdated<'a>(event) => "issue.updated", [room("project", event.project_id), room("user", event.assigned_to)], [] {
        /// The issue.
        issue_id: &'a str,
        /// Its project, to which this goes.
        project_id: &'a str,
        /// Its title.
        title: &'a str,
        /// What it says.
        description: Option<&'a str>,
        /// Its status.
        status: &'a str,
        /// How urgent it is.
        priority: Option<&'a str>,
        /// The user who has it, to whom this goes as well.
        assigned_to: Option<&'a str>,
        /// When it was changed, RFC 3339.
        updated_at: &'a str,
    }

    /// E: an issue was closed.
    IssueClosed<'a, M>(event) => "issue.closed", [room("project", event.project_id)], [] {
        /// The issue.
        issue_id: &'a str,
        /// Its project, to which this goes.
        project_id: &'a str,
        /// The rest of the data, an object.
        #[serde(flatten)]
        more: M,
    }

    /// E: something was suggested.
    AiSuggestion<'a, M>(event) => "ai.suggestion", [project_or_global(event.project_id)], [("source", "ai_dock_service")] {
        /// The suggestion.
        suggestion_id: &'a str,
        /// The project that this goes to; without one, it goes to `global`.
        #[serde(skip)]
        project_id: Option<&'a str>,
        /// What it is about: the kind.
        target_type: &'a str,
        /// What it is about.
        target_id: &'a str,
        /// What kind of suggestion it is.
        category: &'a str,
        /// Its title.
        title: &'a str,
        /// What it says.
        description: &'a str,
        /// How grave it is, usually `info`.
        severity: &'a str,
        /// How certain it is, from 0 to 1.
        confidence: f64,
        /// What should be done.
        suggested_action: Option<&'a str>,
        /// What else is known, an object.
        metadata: M,
    }

    /// E: an analysis has come to its end.
    AiAnalysisComplete<'a, M>(event) => "ai.analysis_complete", [project_or_global(event.project_id)], [] {
        /// The project that this goes to; without one, it goes to `global`.
        #[serde(skip)]
        project_id: Option<&'a str>,
        /// The data, an object.
        #[serde(flatten)]
        more: M,
    }
}

fn room<'a>(kind: &str, id: impl Into<Option<&'a str>>) -> Option<String> {
    id.into().map(|id| format!("{kind}:{id}"))
}

fn project_or_global(project: Option<&str>) -> Option<String> {
    room("project", project).or_else(|| Some(GLOBAL.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(event: &impl Event) -> (String, Vec<String>, String) {
        (event.kind().into(), event.rooms(), serde_json::to_string(event).unwrap())
    }

    #[test]
    fn what_only_says_where_to_is_no_data() {
        let (kind, rooms, data) = written(&JobUpdate { job_id: "1", kind: "job_started", data: json!({"status": "processing"}) });
        assert_eq!((kind.as_str(), rooms, data.as_str()), ("job_started", vec!["job:1".into()], r#"{"status":"processing"}"#));
        let update = TaskUpdate { task_id: "12", data: [1, 2] };
        assert_eq!((update.fields(), written(&update).2), (vec![("task_id", "12")], "[1,2]".into()));
        let everybody = Broadcast { kind: "maintenance", data: () };
        assert_eq!((everybody.rooms(), written(&everybody).2), (vec![EVERYBODY.into()], "null".into()));
    }

    #[test]
    fn an_event_goes_where_its_data_says() {
        let mut event = IssueUpdated {
            issue_id: "i",
            project_id: "p",
            title: "t",
            description: None,
            status: "open",
            priority: None,
            assigned_to: Some("7"),
            updated_at: "2025-10-06T01:00:00Z",
        };
        let data = r#"{"issue_id":"i","project_id":"p","title":"t","description":null,"status":"open","priority":null,"assigned_to":"7","updated_at":"2025-10-06T01:00:00Z"}"#;
        assert_eq!(written(&event), ("issue.updated".into(), vec!["project:p".into(), "user:7".into()], data.into()));
        event.assigned_to = None;
        assert_eq!(event.rooms(), ["project:p"]);
    }

    #[test]
    fn without_a_project_everybody_is_told_who_asked_for_it() {
        let mut event = WorkflowStarted { workflow_id: "w", project_id: None, more: json!({"by": "x"}) };
        assert_eq!((event.rooms(), written(&event).2), (vec!["global".into()], r#"{"workflow_id":"w","by":"x"}"#.into()));
        event.project_id = Some("p");
        assert_eq!((event.rooms(), written(&event).2), (vec!["project:p".into()], r#"{"workflow_id":"w","by":"x"}"#.into()));
        let nothing_more = AiAnalysisComplete { project_id: None, more: () };
        assert_eq!(written(&nothing_more).2, "{}");
    }
}
