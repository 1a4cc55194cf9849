//! What generated code names. Not for people; no promise is made about it.
#![allow(missing_docs)]

pub use futures::FutureExt;
pub use futures::future::BoxFuture;
pub use serde;

pub use crate::args::{DecodeArgs, EncodeArgs};
pub use crate::{
    Caller, Cx, Failure, MethodInfo, Never, Payload, PayloadError, Query, QueryError, Service, ServiceStub, Signal,
    Task, TaskFailure, TaskOptions, Workflow,
};

/// `Display` where the error has it, else `Debug`, else its type: chosen by auto-ref on `(&&&Describe(&error)).describe()`.
pub struct Describe<'a, E>(pub &'a E);

pub trait DescribeByDisplay {
    fn describe(&self) -> String;
}

impl<E: std::fmt::Display> DescribeByDisplay for &&Describe<'_, E> {
    fn describe(&self) -> String {
        self.0.to_string()
    }
}

pub trait DescribeByDebug {
    fn describe(&self) -> String;
}

impl<E: std::fmt::Debug> DescribeByDebug for &Describe<'_, E> {
    fn describe(&self) -> String {
        format!("{:?}", self.0)
    }
}

pub trait DescribeByType {
    fn describe(&self) -> String;
}

impl<E> DescribeByType for Describe<'_, E> {
    fn describe(&self) -> String {
        std::any::type_name::<E>().to_owned()
    }
}
