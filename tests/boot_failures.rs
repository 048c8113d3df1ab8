//! A new worker that cannot take over: the old configuration runs, says why, and nothing is lost.
//! How long clients wait is measured by `abide-measure boot-failures`, which has also those cases
//! that take the supervisor's deadlines to end.

use abide_tests::boot_failure::{BootFailure, provoke};

/// What happens in front of the hand-over changes nothing; what happens behind it is rolled back.
async fn check(failure: BootFailure, told: &[&str]) {
    let after = provoke(failure).await;
    assert_eq!(
        after.runs_old_config,
        failure.blames_config(),
        "{failure}: {after:?}"
    );
    assert_eq!(after.wrong, [""; 0], "{failure}: {after:?}");
    assert_eq!(after.refused, 0, "{failure}: {after:?}");
    if failure.is_behind_the_hand_over() && failure.blames_config() {
        assert_eq!(after.record.as_deref(), Some("rolled_back"), "{after:?}");
    } else {
        assert!(
            matches!(after.record.as_deref(), None | Some("refused")),
            "{after:?}"
        );
    }
    for part in told {
        assert!(after.told.contains(part), "{failure}: {part}: {after:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_does_not_compile_changes_nothing() {
    check(BootFailure::BadPlugin, &["plugins.spare1.path", "compiled"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_changes_nothing() {
    check(BootFailure::PortTaken, &["127.0.0.1:", "in use"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_dies_changes_nothing() {
    check(BootFailure::DiesBeforeReady, &["SIGABRT", "abide restart"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_it_opens_the_store_is_rolled_back() {
    check(BootFailure::DiesBeforeServing, &["SIGABRT", "rolled back"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_open_is_tried_until_it_does() {
    check(BootFailure::StoreDoesNotOpen, &["CURRENT"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_in_its_probation_is_rolled_back() {
    check(BootFailure::DiesOnTrial, &["SIGABRT", "rolled back"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_in_its_probation_is_rolled_back() {
    check(BootFailure::HangsOnTrial, &["rolled back"]).await;
}
