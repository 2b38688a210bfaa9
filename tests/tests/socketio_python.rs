//! Unmodified clients of python-socketio, of today and of 2023, asynchronous and not, on the gateway and a real Redis, in all three ways
//! they can be carried.

use roomcast_tests::real::socketio::{Library, scenarios};
use roomcast_tests::socketio_tests;

socketio_tests!(
    &Library::PYTHON =>
    tokens_are_taken_from_anywhere_and_refusals_told,
    commands_are_acknowledged,
    events_of_every_source_reach_all_members,
    nothing_is_lost_under_load_and_while_transports_change,
    two_namespaces_share_a_connection,
    clients_come_back_after_a_restart_and_miss_nothing,
    an_expired_token_is_told_and_replaced,
    clients_that_are_cut_off_come_back,
);

#[test]
fn binary_data_go_both_ways() {
    scenarios::binary_data_go_both_ways(&Library::PYTHON);
}
