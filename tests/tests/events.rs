//! The typed events of the Rust API, from an embedded gateway to real clients: type, room and data of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use roomcast_core::config::Config;
use roomcast_core::event;
use roomcast_shell::gateway::{Emitted, Gateway};
use roomcast_shell::options::Options;
use roomcast_shell::transport::Transport;
use roomcast_tests::real::PATIENCE;
use roomcast_tests::real::client::{Credential, JsonClient, access_token};
use roomcast_tests::real::embedded;
use serde_json::{Value, json};
use smol::block_on;

const SECRET: &str = "the secret of the host";

#[test]
fn on_tokio_each_helper_publishes_what_it_says() {
    let embedded = embedded::on_tokio(options());
    publish_and_judge(&embedded.gateway, embedded.address);
    embedded.stop();
}

#[test]
fn on_smol_each_helper_publishes_what_it_says() {
    let embedded = embedded::on_smol(options());
    publish_and_judge(&embedded.gateway, embedded.address);
    embedded.stop();
}

/// What is published, and the type, rooms, data and further fields that come of it.
type Case<'a> = (Emitted, &'a str, &'a [&'a str], Value, &'a [(&'a str, &'a str)]);

fn publish_and_judge<T: Transport>(gateway: &Gateway<T>, address: SocketAddr) {
    // Who is in all the rooms that anything here goes to, and who is only connected.
    let mut member = client(address, "7");
    let rooms = ["project:p", "agent:a", "task:12", "job:1", "global"];
    rooms.iter().for_each(|room| drop(member.subscribe(room)));
    let mut stranger = client(address, "8");

    let (when, more) = ("2025-10-06T01:00:00Z", json!({"x": 1}));
    let task = json!({"id": "t", "title": "Write", "plans": []});
    let changes = json!({"status": {"old": "TODO", "new": "DONE"}});
    let of_project: &[&str] = &["project:p"];
    let (of_agent, of_global): (&[&str], &[&str]) = (&["agent:a", "global"], &["global"]);
    let cases: Vec<Case<'_>> = vec![
        // System B.
        (
            gateway.notify_task_created(&event::TaskCreated { task_id: "t", project_id: "p", task: &task }),
            "task_created",
            of_project,
            json!({"task_id": "t", "project_id": "p", "task": task}),
            &[],
        ),
        (
            gateway.notify_task_updated(&event::TaskUpdated { task_id: "t", project_id: "p", changes: &changes, task: () }),
            "task_updated",
            of_project,
            json!({"task_id": "t", "project_id": "p", "changes": changes, "task": null}),
            &[],
        ),
        (
            gateway.notify_task_deleted(&event::TaskDeleted { task_id: "t", project_id: "p" }),
            "task_deleted",
            of_project,
            json!({"task_id": "t", "project_id": "p"}),
            &[],
        ),
        (
            gateway.notify_project_updated(&event::ProjectChanged { project_id: "p", changes: &changes, project: &more }),
            "project_updated",
            of_project,
            json!({"project_id": "p", "changes": changes, "project": more}),
            &[],
        ),
        (
            gateway.notify_status_changed(&event::StatusChanged {
                entity_id: "t",
                entity_type: "task",
                old_status: "TODO",
                new_status: "DONE",
                project_id: "p",
            }),
            "status_changed",
            of_project,
            json!({"entity_id": "t", "entity_type": "task", "old_status": "TODO", "new_status": "DONE", "project_id": "p"}),
            &[],
        ),
        (gateway.send_direct_message("7", "hello", &more), "hello", &["user:7"], more.clone(), &[]),
        (gateway.send_project_message("p", "odd\"type", &[1.5]), "odd\"type", of_project, json!([1.5]), &[]),
        (gateway.broadcast("maintenance", &"noon"), "maintenance", &["*"], json!("noon"), &[]),
        // Systems C and D.
        (gateway.publish_task_update("12", &more), "task_update", &["task:12"], more.clone(), &[("task_id", "12")]),
        (gateway.publish_general_update(&more), "general_update", of_global, more.clone(), &[]),
        (gateway.send_update("1", "file_completed", &more), "file_completed", &["job:1"], more.clone(), &[]),
        // System E.
        (
            gateway.broadcast_project_updated(&event::ProjectUpdated {
                project_id: "p",
                project_name: "n",
                repository_url: "r",
                status: "active",
                updated_by: "7",
                changes: &more,
            }),
            "project.updated",
            &["project:p", "user:7"],
            json!({"project_id": "p", "project_name": "n", "repository_url": "r", "status": "active", "updated_by": "7", "changes": more}),
            &[("source", "project_service")],
        ),
        (
            gateway.broadcast_project_deleted(&event::ProjectDeleted { project_id: "p", deleted_by: "7" }),
            "project.deleted",
            &["project:p", "user:7"],
            json!({"project_id": "p", "deleted_by": "7"}),
            &[],
        ),
        (
            gateway.broadcast_agent_status_changed(&event::AgentStatusChanged {
                agent_id: "a",
                agent_name: "n",
                status: "busy",
                availability: 40,
                timestamp: when,
                metadata: &more,
            }),
            "agent.status_changed",
            of_agent,
            json!({"agent_id": "a", "agent_name": "n", "status": "busy", "availability": 40, "timestamp": when, "metadata": more}),
            &[("source", "agent_service")],
        ),
        (
            gateway.broadcast_agent_connected(&event::AgentConnected { agent_id: "a", more: &more }),
            "agent.connected",
            of_agent,
            json!({"agent_id": "a", "x": 1}),
            &[],
        ),
        (
            gateway.broadcast_agent_disconnected(&event::AgentDisconnected { agent_id: "a", more: () }),
            "agent.disconnected",
            of_agent,
            json!({"agent_id": "a"}),
            &[],
        ),
        (
            gateway.broadcast_workflow_started(&event::WorkflowStarted { workflow_id: "w", project_id: Some("p"), more: &more }),
            "workflow.started",
            of_project,
            json!({"workflow_id": "w", "x": 1}),
            &[],
        ),
        (
            gateway.broadcast_workflow_progress(&event::WorkflowProgress {
                workflow_id: "w",
                project_id: None,
                status: "running",
                progress: 50,
                current_step: "Step 1",
                total_steps: 2,
                estimated_time_remaining: None,
                logs: ["a"],
                errors: (),
            }),
            "workflow.progress",
            of_global,
            json!({"workflow_id": "w", "status": "running", "progress": 50, "current_step": "Step 1", "total_steps": 2, "estimated_time_remaining": null, "logs": ["a"], "errors": null}),
            &[("source", "workflow_service")],
        ),
        (
            gateway.broadcast_workflow_completed(&event::WorkflowCompleted { workflow_id: "w", project_id: None, more: &more }),
            "workflow.completed",
            of_global,
            json!({"workflow_id": "w", "x": 1}),
            &[],
        ),
        (
            gateway.broadcast_workflow_failed(&event::WorkflowFailed { workflow_id: "w", project_id: Some("p"), more: &more }),
            "workflow.failed",
            of_project,
            json!({"workflow_id": "w", "x": 1}),
            &[],
        ),
        (
            gateway.broadcast_pr_created(&event::PrCreated {
                pr_id: "r",
                project_id: "p",
                title: "t",
                description: None,
                author: "u",
                branch: "b",
                github_url: "g",
                status: "open",
                created_at: when,
            }),
            "pr.created",
            of_project,
            json!({"pr_id": "r", "project_id": "p", "title": "t", "description": null, "author": "u", "branch": "b", "github_url": "g", "status": "open", "created_at": when}),
            &[("source", "github_service")],
        ),
        (
            gateway.broadcast_pr_updated(&event::PrUpdated { pr_id: "r", project_id: "p", title: "t", status: "open" }),
            "pr.updated",
            of_project,
            json!({"pr_id": "r", "project_id": "p", "title": "t", "status": "open"}),
            &[],
        ),
        (
            gateway.broadcast_pr_closed(&event::PrClosed { pr_id: "r", project_id: "p", more: &more }),
            "pr.closed",
            of_project,
            json!({"pr_id": "r", "project_id": "p", "x": 1}),
            &[],
        ),
        (
            gateway.broadcast_issue_created(&event::IssueCreated { issue_id: "i", project_id: "p", more: &more }),
            "issue.created",
            of_project,
            json!({"issue_id": "i", "project_id": "p", "x": 1}),
            &[],
        ),
        (
            gateway.broadcast_issue_updated(&event::IssueUpdated {
                issue_id: "i",
                project_id: "p",
                title: "t",
                description: Some("d"),
                status: "open",
                priority: None,
                assigned_to: Some("7"),
                updated_at: when,
            }),
            "issue.updated",
            &["project:p", "user:7"],
            json!({"issue_id": "i", "project_id": "p", "title": "t", "description": "d", "status": "open", "priority": null, "assigned_to": "7", "updated_at": when}),
            &[],
        ),
        (
            gateway.broadcast_issue_closed(&event::IssueClosed { issue_id: "i", project_id: "p", more: &more }),
            "issue.closed",
            of_project,
            json!({"issue_id": "i", "project_id": "p", "x": 1}),
            &[],
        ),
        (
            gateway.broadcast_ai_suggestion(&event::AiSuggestion {
                suggestion_id: "s",
                project_id: Some("p"),
                target_type: "file",
                target_id: "f",
                category: "style",
                title: "t",
                description: "d",
                severity: "info",
                confidence: 1.0,
                suggested_action: None,
                metadata: &more,
            }),
            "ai.suggestion",
            of_project,
            json!({"suggestion_id": "s", "target_type": "file", "target_id": "f", "category": "style", "title": "t", "description": "d", "severity": "info", "confidence": 1.0, "suggested_action": null, "metadata": more}),
            &[("source", "ai_dock_service")],
        ),
        (
            gateway.broadcast_ai_analysis_complete(&event::AiAnalysisComplete { project_id: None, more: &more }),
            "ai.analysis_complete",
            of_global,
            more.clone(),
            &[],
        ),
    ];
    // Rooms have an order each and none among them.
    let count = cases.iter().map(|(_, _, rooms, ..)| rooms.len()).sum();
    let mut frames: BTreeMap<(String, String), Value> = (0..count)
        .map(|_| {
            let frame = member.next(PATIENCE);
            let text = |name: &str| frame[name].as_str().expect("it is a string").to_owned();
            ((text("message_id"), text("room")), frame)
        })
        .collect();
    for (emitted, kind, rooms, data, fields) in cases {
        let (message_id, stored) = emitted.expect("the data can be written");
        let position = block_on(stored).unwrap_or_else(|_| panic!("{kind}: the store is in the process"));
        // Only projects and users are remembered; where there are two rooms, the position is that of the first.
        let remembers = rooms[0].starts_with("project:") || rooms[0].starts_with("user:");
        assert_eq!(position.is_some(), remembers, "{kind}");
        for room in rooms {
            let frame = frames.remove(&(message_id.to_string(), (*room).to_owned()));
            let frame = frame.unwrap_or_else(|| panic!("no {kind} has come to {room}"));
            assert_eq!((&frame["type"], &frame["data"]), (&json!(kind), &data));
            let known = ["type", "data", "timestamp", "message_id", "room", "position"];
            let frame = frame.as_object().expect("a frame is an object");
            let further = frame.iter().filter(|(name, _)| !known.contains(&name.as_str()));
            let further: Vec<_> = further.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())).collect();
            assert_eq!(further, fields, "{kind}");
        }
    }
    assert!(gateway.send_update("1", "odd", &BTreeMap::from([((1, 2), 3)])).is_err(), "keys of JSON are strings");

    // Who is in none of the rooms was told only what everybody is.
    stranger.expect_type("maintenance");
    stranger.send(&json!({"type": "ping"}));
    stranger.expect_type("pong");
}

fn client(address: SocketAddr, user: &str) -> JsonClient {
    let token = access_token(SECRET, user, &json!({}));
    let mut client = JsonClient::connect(address, "/ws", Credential::Header(&token));
    client.expect_type("auth_success");
    // Everybody's own room is entered before anything is published.
    let entered = roomcast_tests::real::poll_until(PATIENCE, || {
        client.send(&json!({"type": "rooms"}));
        let rooms = client.expect_type("rooms")["data"]["rooms"].clone();
        rooms.as_array().expect("a list").contains(&json!(format!("user:{user}"))).then_some(())
    });
    assert!(entered.is_some(), "user {user} is not in the own room");
    client
}

fn options() -> Options {
    let mut config = Config::default();
    config.auth.secret = Some(roomcast_core::config::Secret::new(SECRET));
    config.limits.messages_per_second = 10_000;
    config.limits.burst = 10_000;
    // What goes to a job is a publisher's own stream by default, which nobody writes to here.
    config.rooms.retain(|rule| !rule.rooms.matches("job:1"));
    Options { config, listen: SocketAddr::from(([127, 0, 0, 1], 0)), shards: 2, ..Options::default() }
}
