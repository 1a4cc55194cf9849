//! The command `partitura`.

use std::io::stdout;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    partitura_cli::run(std::env::args_os(), &mut stdout()).await.into()
}
