//! The messages about an instance that ends.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_query_behind_the_end_in_its_batch_is_answered_as_one_after_it() {
    let stage = Stage::new().await;
    let owner = stage.owner::<Tally>().await;
    stage.turn(&owner, [("s", start(FIRST, 1, StartPolicy::UseExisting))]).await;
    let (reply_to, reply) = stage.mailbox.request();
    let (name, args) = Query::<Tally, u64>::new("count", Payload::encode(&())).into_parts().expect("a query");
    let query = |reply_to| Command::Query { name: name.clone(), args: args.clone(), reply_to };
    stage.turn(&owner, [("a", signal()), ("q", query(reply_to))]).await;
    let ReplyBody::Answer(with_the_end) = answer(reply).await else { panic!("refused") };
    let ReplyBody::Answer(later) = stage.ask(&owner, query).await else { panic!("refused") };
    assert_eq!(with_the_end, later);
}
