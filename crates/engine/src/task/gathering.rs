//! Methods that take many calls at once: gathers calls for a moment, and gives each its own answer.
//!
//! A call waits for others inside of its attempt, so that all else of it is its own: time-outs, heartbeats, the report,
//! retries. Each further attempt goes in batches of half the size, down to one: a call that brings its batch down does
//! not do so for ever.

use std::collections::hash_map::Entry;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use partitura_workflow::{BatchOptions, Failure, FailureKind};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::batches::{Answer, Batch, Call, Group};
use super::context::TaskContext;
use super::limits::value_at;
use super::runner::TaskRunner;
use crate::code::{self, Named};
use crate::wire::TaskRequest;
use crate::wire::names::InstanceKey;

impl TaskRunner {
    /// Calls the method, alone or with others, and contains its panics.
    pub(super) async fn call_method(&self, request: &TaskRequest, context: TaskContext) -> Answer {
        let batch = self.service.batch(&request.method);
        if self.layers.is_empty() && batch.is_none() {
            let method = AssertUnwindSafe(self.service.call(&request.method, request.args.clone())).catch_unwind();
            return context.scope(method).await.unwrap_or_else(|panic| Err(Failure::panic(&*panic).into()));
        }
        let inner = context.clone();
        let method = async {
            match batch {
                Some(options) => self.call_with_others(request, inner.clone(), options).await,
                None => self.service.call(&request.method, request.args.clone()).await,
            }
        };
        let layered = AssertUnwindSafe(self.layers.task((request, &inner), method)).catch_unwind();
        context.scope(layered).await.unwrap_or_else(|panic| Err(Failure::panic(&*panic).into()))
    }

    async fn call_with_others(&self, request: &TaskRequest, context: TaskContext, options: BatchOptions) -> Answer {
        // One that this build cannot read is for others.
        self.service.check(&request.method, &request.args)?;
        let key = options.per.and_then(|path| value_at(&request.args, path));
        let group = Group { method: request.method.clone(), key, max: share(options.max, request.attempt) };
        let (answer, answered) = oneshot::channel();
        self.gather(group, options.within, Call { args: request.args.clone(), context, answer });
        let unanswered = |_| Err(Failure::new(FailureKind::Panic, "the batch gave no answer to this call").into());
        answered.await.unwrap_or_else(unanswered)
    }

    fn gather(&self, group: Group, within: Duration, call: Call) {
        let mut open = self.0.batches.lock();
        open.count += 1;
        let number = open.count;
        match open.batches.entry(group) {
            Entry::Occupied(mut batch) => {
                batch.get_mut().calls.push(call);
                if batch.get().calls.len() >= batch.key().max {
                    let Batch { calls, full, .. } = batch.remove();
                    // Its task waits for them, unless the runtime ends.
                    let _ = full.send(calls);
                }
            }
            Entry::Vacant(vacant) if vacant.key().max <= 1 => {
                let (runner, method) = (self.clone(), vacant.into_key().method);
                tokio::spawn(async move { runner.call_batch(&method, vec![call]).await });
            }
            Entry::Vacant(vacant) => {
                let (full, is_full) = oneshot::channel();
                let (runner, group) = (self.clone(), vacant.key().clone());
                tokio::spawn(async move { runner.run_batch(group, number, within, is_full).await });
                vacant.insert(Batch { number, calls: vec![call], full });
            }
        }
    }

    /// Waits until a batch is full or old enough, and calls the method.
    async fn run_batch(&self, group: Group, number: u64, within: Duration, mut full: oneshot::Receiver<Vec<Call>>) {
        let filled = tokio::select! {
            biased;
            filled = &mut full => filled.ok(),
            () = sleep(within) => None,
        };
        let calls = match filled.or_else(|| self.0.batches.take(&group, number)) {
            Some(calls) => calls,
            // It was filled at this very moment.
            None => full.await.unwrap_or_default(),
        };
        self.call_batch(&group.method, calls).await;
    }

    /// Names a batch, as code of the first instance that has a call in it.
    fn batch_named(&self, method: &str, calls: &[Call]) -> Arc<Named> {
        let first = calls.first().map(|call| InstanceKey::new(call.context.workflow(), call.context.workflow_id()));
        let name = format!("{}.{method}, a batch of {}", self.service.name(), calls.len());
        Arc::new(Named(first.unwrap_or_else(|| InstanceKey::new("", "")), name))
    }

    async fn call_batch(&self, method: &str, mut calls: Vec<Call>) {
        calls.retain(|call| !call.answer.is_closed());
        if calls.is_empty() {
            return;
        }
        let contexts = calls.iter().map(|call| call.context.clone()).collect();
        let args = calls.iter().map(|call| call.args.clone()).collect();
        let called = AssertUnwindSafe(self.service.call_batch(method, args)).catch_unwind();
        let called = code::beside(self.batch_named(method, &calls), TaskContext::scope_batch(contexts, called));
        let answers = tokio::select! {
            biased;
            // Nobody waits any more: each call had its time-out, or its worker is gone.
            _ = join_all(calls.iter_mut().map(|call| call.answer.closed())) => return,
            answers = called => answers,
        };
        let answers = answers.unwrap_or_else(|panic| {
            let failure = Failure::panic(&*panic);
            calls.iter().map(|_| Err(failure.clone().into())).collect()
        });
        for (call, answer) in calls.into_iter().zip(answers) {
            // An attempt that is over by now has its own end.
            let _ = call.answer.send(answer);
        }
    }
}

/// How many calls of this attempt go together.
fn share(max: usize, attempt: u32) -> usize {
    max.checked_shr(attempt.saturating_sub(1)).unwrap_or(0).max(1)
}
