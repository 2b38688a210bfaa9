//! A child process whose output is kept and which never outlives its owner.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{PATIENCE, poll_until};

/// A running child process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
}

impl Process {
    /// Starts `command` and collects what it prints, on both streams, line by line.
    ///
    /// # Panics
    ///
    /// When the program cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        Self::spawn_with(Stdio::null(), name, command)
    }

    /// The same, and it can be told something ([`Process::tell`]).
    ///
    /// # Panics
    ///
    /// As [`Process::spawn`].
    pub fn spawn_listening(name: &str, command: &mut Command) -> Self {
        Self::spawn_with(Stdio::piped(), name, command)
    }

    fn spawn_with(stdin: Stdio, name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let log = Arc::new(Log::default());
        collect(&log, child.stdout.take().expect("stdout is piped"));
        collect(&log, child.stderr.take().expect("stderr is piped"));
        Self { name: name.to_owned(), child, log }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to what it reads.
    ///
    /// # Panics
    ///
    /// When it does not listen, or has ended.
    pub fn tell(&self, line: &str) {
        let mut stdin = self.child.stdin.as_ref().expect("it was started to listen");
        let told = stdin.write_all(format!("{line}\n").as_bytes());
        told.unwrap_or_else(|error| panic!("{} does not listen ({error}); its output:\n{}", self.name, self.tail()));
    }

    /// How many lines were printed so far: a mark for [`Process::wait_for_log_since`].
    #[must_use]
    pub fn log_mark(&self) -> usize {
        self.log.lock().lines.len()
    }

    /// Every line printed so far.
    #[must_use]
    pub fn log_lines(&self) -> Vec<String> {
        self.log.lock().lines.clone()
    }

    /// The lines printed after the mark was taken.
    #[must_use]
    pub fn log_lines_since(&self, mark: usize) -> Vec<String> {
        self.log.lock().lines.get(mark..).unwrap_or_default().to_vec()
    }

    /// Waits for a line that contains `pattern`, printed before now or later, and returns it.
    ///
    /// # Panics
    ///
    /// When no such line comes within the time, or can come because the process closed its output.
    pub fn wait_for_log(&self, pattern: &str, within: Duration) -> String {
        self.wait_for_log_since(0, pattern, within)
    }

    /// Waits for a line that contains `pattern` and was printed after the mark was taken.
    ///
    /// # Panics
    ///
    /// As [`Process::wait_for_log`].
    pub fn wait_for_log_since(&self, mark: usize, pattern: &str, within: Duration) -> String {
        match self.log.wait_for(mark, pattern, within) {
            Some(line) => line,
            None => panic!("{} printed no line with {pattern:?} within {within:?}; its output:\n{}", self.name, self.tail()),
        }
    }

    /// Waits until both streams are closed: after that, every line is in the log.
    ///
    /// The process may have ended a moment before its last lines are read.
    ///
    /// # Panics
    ///
    /// When they are still open after `within`.
    pub fn wait_for_end_of_output(&self, within: Duration) {
        let closed = poll_until(within, || (self.log.lock().open_streams == 0).then_some(()));
        assert!(closed.is_some(), "{} still holds its output after {within:?}", self.name);
    }

    /// The last lines printed, for the message of a failing test.
    #[must_use]
    pub fn tail(&self) -> String {
        const LINES: usize = 60;
        let log = self.log.lock();
        let start = log.lines.len().saturating_sub(LINES);
        log.lines[start..].join("\n")
    }

    /// Sends a signal, unless the process is known to have ended.
    ///
    /// # Panics
    ///
    /// When the system refuses.
    pub fn signal(&mut self, signal: Signal) {
        // An ended child keeps its id until it is waited for, so the id cannot belong to somebody else.
        if self.exited().is_none() {
            kill(self.nix_pid(), signal).unwrap_or_else(|error| panic!("cannot send {signal} to {}: {error}", self.name));
        }
    }

    /// The exit status, if the process has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("cannot wait for {}: {error}", self.name))
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    ///
    /// When it still runs after `within`.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        match poll_until(within, || self.exited()) {
            Some(status) => status,
            None => panic!("{} still runs after {within:?}; its output:\n{}", self.name, self.tail()),
        }
    }

    /// Asks the process to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    ///
    /// When it still runs after `within`.
    pub fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(within)
    }

    /// Ends the process without warning (SIGKILL), as a crash of the machine would.
    pub fn kill(&mut self) {
        // The only error is that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.pid()).expect("process ids fit"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end and returns what it printed.
///
/// # Panics
///
/// When it cannot be started, or still runs when a test's patience is over.
pub fn run(command: &mut Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = read_all(child.stdout.take().expect("stdout is piped"));
    let stderr = read_all(child.stderr.take().expect("stderr is piped"));
    let ended = poll_until(PATIENCE, || child.try_wait().expect("a child can be waited for"));
    // The readers end with the process, and so does whatever it does wrong.
    let _ = child.kill();
    let _ = child.wait();
    let [stdout, stderr] = [stdout, stderr].map(|reader| reader.join().expect("reading does not panic"));
    match ended {
        Some(status) => Output { status, stdout, stderr },
        None => panic!("{command:?} still runs after {PATIENCE:?}; it printed:\n{}", String::from_utf8_lossy(&stderr)),
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is worth more than the error.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
}

#[derive(Debug, Default)]
struct Log {
    written: Mutex<Written>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Written {
    lines: Vec<String>,
    open_streams: usize,
}

impl Log {
    fn wait_for(&self, mark: usize, pattern: &str, within: Duration) -> Option<String> {
        let deadline = Instant::now() + within;
        let mut written = self.lock();
        let mut next = mark;
        loop {
            let unread = written.lines.get(next..).unwrap_or_default();
            if let Some(line) = unread.iter().find(|line| line.contains(pattern)) {
                return Some(line.clone());
            }
            next = next.max(written.lines.len());
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || written.open_streams == 0 {
                return None;
            }
            written = self.news.wait_timeout(written, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        // A panic elsewhere in the test leaves the lines as good as they were.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn collect(log: &Arc<Log>, stream: impl Read + Send + 'static) {
    log.lock().open_streams += 1;
    let log = Arc::clone(log);
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        while matches!(stream.read_until(b'\n', &mut bytes), Ok(read) if read > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            log.lock().lines.push(line);
            log.news.notify_all();
        }
        log.lock().open_streams -= 1;
        log.news.notify_all();
    });
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;
    use crate::real::PATIENCE;

    fn shell(script: &str) -> Process {
        Process::spawn("a shell", Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn lines_of_both_streams_are_found_before_and_after_they_come() {
        let process = shell("echo out one; echo err two >&2; exec sleep 60");
        assert_eq!(process.wait_for_log("two", PATIENCE), "err two");
        assert_eq!(process.wait_for_log("one", PATIENCE), "out one");
        assert_eq!(process.log_mark(), 2);
    }

    #[test]
    fn a_mark_hides_the_lines_before_it() {
        let process = shell("echo tick 1; echo tick 2");
        process.wait_for_log("tick 2", PATIENCE);
        assert_eq!(process.wait_for_log("tick", PATIENCE), "tick 1");
        assert_eq!(process.wait_for_log_since(1, "tick", PATIENCE), "tick 2");
    }

    #[test]
    #[should_panic(expected = "the last words")]
    fn waiting_ends_with_the_output_of_the_process() {
        shell("echo the last words").wait_for_log("something else", Duration::from_secs(60));
    }

    #[test]
    fn the_last_line_is_there_at_the_end_of_output() {
        let mut process = shell("seq 10000; printf last");
        process.wait(PATIENCE);
        process.wait_for_end_of_output(PATIENCE);
        assert_eq!(process.log_lines().len(), 10_001);
        assert_eq!(process.log_lines().last().unwrap(), "last");
    }

    #[test]
    fn who_listens_is_told() {
        let process = Process::spawn_listening("cat", &mut Command::new("cat"));
        process.tell("a line");
        process.tell("another");
        process.wait_for_log("another", PATIENCE);
        assert_eq!(process.log_lines_since(1), ["another"]);
    }

    #[test]
    fn terminate_returns_the_exit_status() {
        let mut process = shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
        process.wait_for_log("ready", PATIENCE);
        assert_eq!(process.terminate(PATIENCE).code(), Some(7));
        // A second signal finds nobody and hurts nobody.
        process.signal(Signal::SIGTERM);
    }

    #[test]
    fn dropping_kills() {
        let process = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done");
        process.wait_for_log("ready", PATIENCE);
        let pid = process.nix_pid();
        drop(process);
        assert!(kill(pid, None).is_err());
    }

    #[test]
    fn kill_is_seen_as_a_signal() {
        let mut process = shell("exec sleep 60");
        process.kill();
        assert_eq!(process.wait(PATIENCE).signal(), Some(9));
    }
}
