#![allow(unused)]

use partitura::service;

#[service]
trait Payments {
    fn charge(&self, amount: u64) -> Result<(), String>;
    async fn refund(amount: u64) -> Result<(), String>;
    async fn close(&mut self) -> Result<(), String>;
    async fn ship(self) -> Result<(), String>;
    async fn note<T>(&self, note: T) -> Result<(), String>;
    async fn print(&self, text: impl ToString) -> Result<(), String>;
    async fn find(&self, name: &str) -> Result<(), String>;
    async fn find_all(&self, names: Vec<&str>) -> Result<(), String>;
    async fn pair(&self, (a, b): (u8, u8)) -> Result<(), String>;
    async fn read(&self) -> std::io::Result<u64>;
    async fn body(&self) -> u64 {
        1
    }
    async fn find_both(&self, names: [&str; 2]) -> Result<(), String>;
    async fn find_within(&self, names: Option<Vec<(u8, [&'static str; 2])>>) -> Result<(), String>;
    async fn name(&self) -> &'static str;
    async fn label(&self) -> Result<String, &'static str>;
    async fn open(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
    const LIMIT: u64;
}

fn main() {}
