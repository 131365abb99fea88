//! The work behind the commits: removing body files and keeping the database up, on a thread where nobody waits for it.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::bodies::Bodies;
use super::engine::Upkeep;
use crate::message::QueueId;

/// The database is looked after when this many octets were written.
const MUCH: usize = 4 << 20;
/// Or when something was written, and then nothing like [`MUCH`] for this long.
const QUIET: Duration = Duration::from_secs(5);

/// How much the thread gives way to those that answer programs (`nice`): where processors are few, its copying made them wait for it.
#[cfg(target_os = "linux")]
const GIVES_WAY: i32 = 10;

/// The writer's end of the thread. Dropping it ends the thread in order and waits for it.
pub struct Keeper {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Desk {
    todo: Mutex<Todo>,
    changed: Condvar,
}

#[derive(Default)]
struct Todo {
    files: Vec<QueueId>,
    written: usize,
    stop: bool,
}

impl Desk {
    fn todo(&self) -> MutexGuard<'_, Todo> {
        self.todo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is to be done, and takes it. The database is due when `written` is above 0.
    fn next(&self) -> Todo {
        let mut todo = self.todo();
        loop {
            if todo.stop || todo.written >= MUCH {
                let stop = todo.stop;
                return std::mem::replace(&mut *todo, Todo { stop, ..Todo::default() });
            }
            if !todo.files.is_empty() {
                return Todo { files: std::mem::take(&mut todo.files), ..Todo::default() };
            }
            if todo.written == 0 {
                todo = self.changed.wait(todo).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (after, waited) = self.changed.wait_timeout(todo, QUIET).unwrap_or_else(PoisonError::into_inner);
            todo = after;
            if waited.timed_out() {
                return std::mem::take(&mut *todo);
            }
        }
    }
}

impl Keeper {
    /// Starts the thread.
    pub fn start(bodies: Bodies, upkeep: Option<Box<dyn Upkeep>>) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let thread = std::thread::Builder::new().name("store-upkeep".to_owned()).spawn({
            let desk = Arc::clone(&desk);
            move || keep(&desk, &bodies, upkeep)
        })?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// A batch was committed: about `octets` were written, and these messages no longer need their files.
    pub fn committed(&self, octets: usize, files: Vec<QueueId>) {
        let mut todo = self.desk.todo();
        let was_idle = todo.written == 0;
        let is_news = was_idle || !files.is_empty() || todo.written + octets >= MUCH;
        todo.written += octets;
        todo.files.extend(files);
        drop(todo);
        if is_news {
            self.desk.changed.notify_one();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.desk.todo().stop = true;
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the upkeep of the queue panicked: body files are swept at the next start");
        }
    }
}

/// On Linux a priority is a thread's own. Without the right to lower it (a unit may forbid the call) everything works all the same.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, GIVES_WAY) {
        tracing::debug!(%error, "the upkeep of the queue runs at the usual priority");
    }
}

fn keep(desk: &Desk, bodies: &Bodies, mut upkeep: Option<Box<dyn Upkeep>>) {
    give_way();
    loop {
        let todo = desk.next();
        if !todo.files.is_empty() {
            super::crash::point(super::crash::BEFORE_BODY_REMOVAL);
        }
        todo.files.iter().for_each(|&id| bodies.remove(id));
        if let Some(upkeep) = &mut upkeep {
            if todo.stop {
                upkeep.finish();
            } else if todo.written > 0 {
                upkeep.tend();
            }
        }
        if todo.stop {
            return;
        }
    }
}
