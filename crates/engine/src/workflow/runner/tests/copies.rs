//! Copies of starts.

use super::*;
use crate::wire::StartSignal;

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_start_does_not_replace_its_successor() {
    let stage = Stage::new().await;
    let owner = stage.owner::<Tally>().await;
    stage.turn(&owner, [("s", start(FIRST, 9, StartPolicy::Replace))]).await;
    stage.turn(&owner, [("r", start(SECOND, 9, StartPolicy::Replace)), ("a", signal())]).await;
    let copies = [("s", start(FIRST, 9, StartPolicy::Replace)), ("r", start(SECOND, 9, StartPolicy::Replace))];
    assert_eq!(stage.turn(&owner, copies).await, Outcome::Done);
    assert_eq!(stage.summary(&owner).await, (SECOND.to_owned(), Status::Running));
    assert_eq!(stage.count(&owner).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_start_signals_its_own_run_only_and_once() {
    let with_signal = |run: &str, policy| match (start(run, 9, policy), signal()) {
        (Command::Start(start), Command::Signal { name, payload, .. }) => {
            Command::Start(Box::new(Start { signal: Some(StartSignal { name, payload }), ..*start }))
        }
        other => panic!("{other:?}"),
    };
    for policy in [StartPolicy::UseExisting, StartPolicy::RestartEnded, StartPolicy::Replace] {
        let stage = Stage::new().await;
        let owner = stage.owner::<Tally>().await;
        stage.turn(&owner, [("s", with_signal(FIRST, policy)), ("c", with_signal(FIRST, policy))]).await;
        assert_eq!(stage.count(&owner).await, 1, "{policy:?}");
        stage.turn(&owner, [("r", start(SECOND, 9, StartPolicy::Replace))]).await;
        stage.turn(&owner, [("d", with_signal(FIRST, policy))]).await;
        assert_eq!(stage.summary(&owner).await, (SECOND.to_owned(), Status::Running));
        assert_eq!(stage.count(&owner).await, 0, "{policy:?}");
    }
}
