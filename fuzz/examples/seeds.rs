//! Writes the seeds into the corpora, each under a number.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (number, (target, seed)) in roomcast_fuzz::seeds::all().enumerate() {
        let corpus = corpora.join(target);
        fs::create_dir_all(&corpus)?;
        fs::write(corpus.join(format!("seed-{number:03}")), seed)?;
    }
    Ok(())
}
