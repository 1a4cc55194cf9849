//! The store beside the broker, or in it, keeps what stores promise.

use partitura::testing::store;

use crate::stage::Stage;

pub(crate) async fn the_store_passes_the_suite_for_stores(stage: Stage) {
    let report = store::check(stage.store().await).await;
    assert!(report.is_kept(), "{report}");
}
