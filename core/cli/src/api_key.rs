//! The command `api-key`: keys of the HTTP API, for operators.

use std::fmt::Write as _;

use clap::Args;
use clap::builder::PossibleValuesParser;
use roomcast_core::config::{Config, Scope};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::Outcome;

/// Makes a key of the HTTP API: prints what the configuration needs, and the key itself on standard error, this once.
#[derive(Debug, Args)]
pub(crate) struct ApiKey {
    /// What it is called in the configuration and in the audit log.
    #[arg(long)]
    name: String,
    /// What it opens.
    #[arg(long, required = true, value_delimiter = ',', value_name = "SCOPE", value_parser = scopes())]
    scopes: Vec<String>,
}

/// What stands in the configuration.
#[derive(Serialize)]
struct Table<'a> {
    name: &'a str,
    sha256: &'a str,
    scopes: &'a [String],
}

fn scopes() -> PossibleValuesParser {
    PossibleValuesParser::new(Scope::ALL.map(Scope::name))
}

impl ApiKey {
    pub(crate) fn run(self) -> Outcome {
        // 256 bits, and a beginning by which scanners for secrets find keys that were published by mistake.
        let key = format!("rck_{}", random_hex(32)?);
        let digest = hex(&Sha256::digest(&key));
        let table = Table { name: &self.name, sha256: &digest, scopes: &self.scopes };
        let table = toml::to_string(&table)?;
        let config: Config = toml::from_str(&format!("[[api.keys]]\n{table}"))?;
        config.validate()?;
        eprintln!("{key}");
        println!("[[api.keys]]\n{table}");
        Ok(())
    }
}

/// So many random bytes, in hexadecimal digits.
pub(crate) fn random_hex(bytes: usize) -> Result<String, getrandom::Error> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random)?;
    Ok(hex(&random))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
