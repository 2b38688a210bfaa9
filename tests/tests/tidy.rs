//! Facts about the repository itself that would rot if nobody looked.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the workspace")
}

/// Every Rust file below a folder of the workspace.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") && !path.ends_with(".venv") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The crates that a package of the workspace depends on, development aside.
fn dependencies(package: &str) -> Vec<String> {
    let arguments = ["tree", "--locked", "--offline", "-p", package, "-e", "normal", "--prefix", "none", "-f", "{p}"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo writes text");
    text.lines().filter_map(|line| line.split(' ').next()).map(String::from).collect()
}

#[test]
fn each_crate_depends_only_on_what_stands_below_it() {
    let (tokio, smol) = (["tokio", "mio", "hyper"], ["smol", "async-io", "polling"]);
    // The shell knows how Redis is spoken to; only a runtime knows how a connection to it is opened.
    for (package, banned) in [
        ("roomcast-core", [&tokio[..], &smol, &["redis"]].concat()),
        ("roomcast-shell", [tokio, smol].concat()),
        ("roomcast-cli", [tokio, smol].concat()),
        ("roomcast-tokio", smol.to_vec()),
        ("roomcast-smol", tokio.to_vec()),
    ] {
        let dependencies = dependencies(package);
        assert!(dependencies.iter().any(|name| name == "bytes"), "the list of dependencies is understood");
        for banned in banned {
            assert!(!dependencies.iter().any(|name| name == banned), "{package} depends on {banned}");
        }
    }
}

#[test]
fn the_runtimes_are_thin_and_have_the_same_files() {
    let [tokio, smol] = ["runtime-tokio/src", "runtime-smol/src"].map(|folder| {
        let mut names = Vec::new();
        let mut lines = 0;
        for file in rust_files(folder) {
            lines += std::fs::read_to_string(&file).expect("the file can be read").lines().count();
            names.push(file.strip_prefix(root().join(folder)).expect("it lies in the folder").to_owned());
        }
        assert!(lines < 800, "{folder} has {lines} lines");
        names.sort();
        names
    });
    assert_eq!(tokio, smol);
}

#[test]
fn the_core_names_nothing_impure() {
    // A file of tests may need a thread of its own, for example to bound the stack.
    for file in rust_files("core/src").into_iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = std::fs::read_to_string(&file).expect("the file can be read");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in
                ["Instant::now", "SystemTime", "std::thread", "std::fs", "std::net", "std::env", "RandomState", "getrandom"]
            {
                assert!(!code.contains(word), "{}:{}: {word}", file.display(), number + 1);
            }
        }
    }
}

#[test]
fn files_can_be_read_in_one_go() {
    for folder in ["core", "runtime-tokio", "runtime-smol", "fuzz", "tests"] {
        for file in rust_files(folder) {
            let lines = std::fs::read_to_string(&file).expect("the file can be read").lines().count();
            assert!(lines <= 640, "{} has {lines} lines", file.display());
        }
    }
}

#[test]
fn a_driver_without_a_runtime_stays_a_short_read() {
    let text = std::fs::read_to_string(root().join("core/shell/examples/poll_loop.rs")).expect("the file can be read");
    assert!(text.lines().count() < 200, "the tutorial has {} lines", text.lines().count());
}

#[test]
fn what_security_is_said_to_be_proved_by_is_there() {
    let text = std::fs::read_to_string(root().join(".github/SECURITY.md")).expect("the file can be read");
    let paths = text.split('`').filter(|word| word.ends_with(".rs") && word.contains('/'));
    let missing: Vec<&str> = paths.filter(|path| !root().join(path).is_file()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
