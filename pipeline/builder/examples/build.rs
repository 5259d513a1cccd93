//! Builds a folder's Dockerfile: `build HOST CONTEXT BLOBS BASE...`. Prints the image as JSON.

use std::{error::Error, io::Write as _};

use pitlane_builder::{BuildRequest, Builder, Event, Host};
use pitlane_release::Platform;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, context, blobs, bases @ ..] = &arguments[..] else {
        return Err("usage: build HOST CONTEXT BLOBS BASE...".into());
    };
    let platform = Platform::host().ok_or("no platform that releases are made for")?;
    let mut request = BuildRequest::new(context.into(), platform, blobs.into());
    request.bases.extend(bases.iter().cloned());
    let builder = Builder::connect(&Host::parse(host, None)?).await?;
    let say = |event| {
        if let Event::Step { text } | Event::Log { text } = event {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    };
    let built = builder.build(&request, say).await?;
    serde_json::to_writer(std::io::stdout(), &built)?;
    Ok(())
}
