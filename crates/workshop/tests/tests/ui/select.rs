#![allow(unused)]

use partitura::select;

async fn empty() {
    select! {}
}

async fn otherwise() {
    select! {
        _ = async {} => {}
        else => {}
    }
}

async fn guarded() {
    select! {
        _ = async {}, if true => {}
    }
}

async fn no_arrow() {
    select! {
        _ = async {}
    }
}

async fn no_pattern() {
    select! {
        async {} => {}
    }
}

fn main() {}
