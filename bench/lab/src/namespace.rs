//! A network namespace and the thread that holds it. Work enters it by being sent to that thread.
//! It must not know which links and addresses a test wants: that is `link` and `topology`.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::runtime::Runtime;

use crate::child::Child;
use crate::error::LabError;
use crate::lab::Lock;
use crate::new_netns;

/// What the holding thread has at hand for the work that is sent to it.
struct Inside {
    runtime: Runtime,
    netlink: rtnetlink::Handle,
}

type Job = Box<dyn FnOnce(&Inside) + Send>;

/// A network namespace. Dropping it removes it with its links, once the threads and children in it are gone too.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// `None` only while dropping.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Another lab may start only when the last namespace of this one is gone.
    _lock: Arc<Lock>,
}

impl Namespace {
    /// A new namespace with its loopback up and duplicate address detection off.
    pub(crate) fn new(name: &str, lock: Arc<Lock>) -> Result<Self, LabError> {
        let (jobs, inbox) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("ns:{name}"))
            .spawn(move || hold(&inbox, &tell))
            .map_err(LabError::system(format!("start the thread of {name}")))?;
        let entered = told.recv().unwrap_or_else(|_| {
            Err(io::Error::other("its thread ended")) // cannot be: it answers first
        });
        let what = format!("create the network namespace {name} (needs CAP_SYS_ADMIN)");
        entered.map_err(LabError::system(what))?;
        let namespace = Self {
            name: name.to_owned(),
            jobs: Some(jobs),
            thread: Some(thread),
            _lock: lock,
        };
        // An IPv6 address would else be unusable for its first second.
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        }
        namespace.link_up("lo")?;
        Ok(namespace)
    }

    /// As it was given; for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` inside, and waits. Sockets made there stay in the namespace wherever they are used. A panic in
    /// `work` goes on in the caller.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.with_inside(move |_| work())
    }

    /// Starts a thread inside.
    pub fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.run(move || thread::spawn(work)) // a thread starts in its maker's namespace
    }

    /// Starts a child process inside.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        self.run(move || Child::spawn(&mut command))
    }

    /// Writes a setting below `/proc/sys`, as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        let what = format!("write {value} to /proc/sys/{key} in {}", self.name);
        let (path, value) = (format!("/proc/sys/{key}"), value.to_owned());
        self.run(move || std::fs::write(path, value))
            .map_err(LabError::system(what))
    }

    /// Reads a setting below `/proc/sys`, as it is there.
    pub fn setting(&self, key: &str) -> Result<String, LabError> {
        let what = format!("read /proc/sys/{key} in {}", self.name);
        let path = format!("/proc/sys/{key}");
        self.run(move || std::fs::read_to_string(path))
            .map_err(LabError::system(what))
    }

    /// Entries of its connection tracking: connections and flows that something in it has asked the kernel to follow.
    pub fn tracked(&self) -> Result<u64, LabError> {
        let key = "net/netfilter/nf_conntrack_count";
        let count = self.setting(key)?;
        let what = format!("read /proc/sys/{key} in {}", self.name);
        let count = count.trim().parse().map_err(io::Error::other);
        count.map_err(LabError::system(what))
    }

    /// Runs a future that speaks netlink to the namespace, and waits.
    pub(crate) fn netlink<T, F>(
        &self,
        work: impl FnOnce(rtnetlink::Handle) -> F + Send + 'static,
    ) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        self.with_inside(move |inside| inside.runtime.block_on(work(inside.netlink.clone())))
    }

    fn with_inside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inside) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = mpsc::channel();
        let job: Job = Box::new(move |inside| {
            let result = catch_unwind(AssertUnwindSafe(|| work(inside)));
            answer.send(result).ok(); // the caller waits, so it is there
        });
        let jobs = self
            .jobs
            .as_ref()
            .expect("it is not being dropped: it is borrowed");
        jobs.send(job)
            .expect("the thread lives as long as the sender");
        match answered.recv().expect("every job answers") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok(); // jobs catch their panics
        }
    }
}

/// The holding thread: enters a new namespace, says how that went, then does jobs until nobody can send any.
fn hold(inbox: &mpsc::Receiver<Job>, tell: &mpsc::Sender<io::Result<()>>) {
    let inside = match enter() {
        Ok(inside) => inside,
        Err(error) => {
            tell.send(Err(error)).ok(); // the maker waits for it
            return;
        }
    };
    tell.send(Ok(())).ok();
    while let Ok(job) = inbox.recv() {
        job(&inside);
    }
}

fn enter() -> io::Result<Inside> {
    new_netns::enter_new()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let guard = runtime.enter();
    let (connection, netlink, _) = rtnetlink::new_connection()?;
    drop(guard);
    runtime.spawn(connection);
    Ok(Inside { runtime, netlink })
}
