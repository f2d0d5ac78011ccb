//! Runs the whole: lets everybody work for a while, lets them rest, looks at everything, ends the daemon and starts it again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Client, Employed, Step, Trouble};
use super::control::Control;
use super::copier::Copier;
use super::daemon::Daemon;
use super::exports::{EXPORTS, NESTED};
use super::faults::Weather;
use super::fio::Fio;
use super::mortal::Mortal;
use super::plan::{Ending, Plan};
use super::qemu_io::QemuIo;
use super::resizer::Resizer;
use super::resources::{self, Counts, Memory};
use super::verify;
use super::wire::Command;
use super::world::World;
use super::{LOOK_INTERVAL, TIME_MAX};
use crate::Fallible;

/// How often the memory of a daemon at work is looked at.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(20);

pub(crate) struct Director {
    program: PathBuf,
    world: Arc<World>,
    clients: Vec<Employed>,
    weather: Weather,
    life: Life,
    begun: Instant,
    last_memory: Instant,
    last_progress: Instant,
    pub(crate) found: Found,
}

/// One daemon, from start to end.
struct Life {
    daemon: Daemon,
    control: Control,
    descriptors: Counts,
    threads: Counts,
    pool_thread_count: usize,
    /// Memory beyond the data, each time that everybody rested.
    at_rest: Vec<u64>,
}

/// The largest figures that were met.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) at_rest_bytes_max: u64,
    pub(crate) at_work_bytes_max: u64,
    pub(crate) data_bytes_max: u64,
    pub(crate) growth_bytes_max: u64,
    pub(crate) looks_in_a_life_max: usize,
    pub(crate) descriptor_count: usize,
    pub(crate) thread_count: usize,
    pub(crate) pool_thread_count_max: usize,
}

impl Director {
    pub(crate) fn begin(program: PathBuf, world: Arc<World>) -> Fallible<Self> {
        let seed = world.seed;
        let life = Life::begin(&program, &world)?;
        let now = Instant::now();
        let mut clients: Vec<Box<dyn Client>> = vec![Box::new(Resizer::new(seed))];
        for index in 0..2 {
            clients.push(Box::new(Fio::new(seed, index)));
            clients.push(Box::new(Copier::new(seed, index)));
            clients.push(Box::new(QemuIo::new(seed, index)));
            clients.push(Box::new(Mortal::new(seed, index)));
        }
        let employ = |client| Employed::begin(client, &world);
        Ok(Self {
            program,
            clients: clients.into_iter().map(employ).collect(),
            weather: Weather::new(seed),
            life,
            begun: now,
            last_memory: now,
            last_progress: now,
            found: Found::default(),
            world,
        })
    }

    /// Works for so long, and ends with everything looked at and the daemon gone.
    pub(crate) fn run(&mut self, plan: &mut Plan, length: Duration) -> Fallible {
        self.verify()?;
        while self.begun.elapsed() < length {
            let (work, ending) = plan.next();
            self.work(work.min(length.saturating_sub(self.begun.elapsed())))?;
            match ending {
                Ending::Rest => _ = self.rest()?,
                Ending::RestAndRestart => {
                    self.rest()?;
                    self.end_life()?;
                    self.begin_life()?;
                }
                Ending::RestartAtWork => self.restart_at_work()?,
            }
        }
        self.work(Duration::from_secs(1))?;
        let contents = self.rest()?;
        self.end_life()?;
        verify::verify_images(&self.world.folder, &contents)
    }

    /// Lets clients go home, whatever has happened.
    pub(crate) fn dismiss(self) -> Found {
        self.world.gate.end();
        // Without it nobody waits for an answer.
        drop(self.life);
        for client in self.clients {
            client.end();
        }
        self.found
    }

    fn work(&mut self, length: Duration) -> Fallible {
        let begun = Instant::now();
        self.world.gate.open();
        while begun.elapsed() < length {
            self.tend(true)?;
        }
        Ok(())
    }

    /// What is to be done again and again while others work.
    fn tend(&mut self, with_weather: bool) -> Fallible {
        if let Some(failure) = self.world.gate.failure() {
            return Err(failure);
        }
        if let Some(status) = self.life.daemon.status()? {
            return Err(format!("the daemon ended of itself: {status}"));
        }
        if with_weather {
            self.weather.change(&mut self.life.control, &self.world)?;
        }
        if self.last_memory.elapsed() > MEMORY_INTERVAL {
            self.last_memory = Instant::now();
            let memory = self.memory()?;
            resources::judge_at_work(memory)?;
            let most = &mut self.found.at_work_bytes_max;
            *most = memory.beyond_data().max(*most);
        }
        if self.last_progress.elapsed() > PROGRESS_INTERVAL {
            self.last_progress = Instant::now();
            self.tell_progress();
        }
        std::thread::sleep(LOOK_INTERVAL);
        Ok(())
    }

    fn memory(&mut self) -> Fallible<Memory> {
        let memory = resources::memory(self.life.daemon.pid(), &mut self.life.control)?;
        let most = &mut self.found.data_bytes_max;
        *most = memory.data_bytes.max(*most);
        Ok(memory)
    }

    fn tell_progress(&self) {
        let count = |what| self.world.tally.get(what);
        println!(
            "soak: {:>5} s: {} requests of our own, {} + {} + {} runs of fio, qemu-io and nbdcopy, {} deaths, {} restarts, memory {} at work",
            self.begun.elapsed().as_secs(),
            count("requests of mortal clients"),
            count("runs of fio"),
            count("runs of qemu-io"),
            count("runs of nbdcopy"),
            count("deaths in mid-request") + count("tools killed"),
            count("restarts at rest") + count("restarts at work"),
            resources::mib(self.found.at_work_bytes_max)
        );
    }

    /// Lets everybody finish, and looks at everything. Returns what the exports hold.
    fn rest(&mut self) -> Fallible<Vec<Vec<u8>>> {
        self.world.gate.close();
        self.weather.clear(&mut self.life.control, &self.world)?;
        self.wait_until_idle()?;
        self.settle()?;
        verify::flush(&self.world)?;
        let contents = self.verify()?;
        self.look_at_resources()?;
        self.world.tally.add("rests", 1);
        Ok(contents)
    }

    fn wait_until_idle(&mut self) -> Fallible {
        let world = self.world.clone();
        world.gate.wait_until_idle(|| self.tend(false))?;
        world.gate.failure().map_or(Ok(()), Err)
    }

    fn settle(&self) -> Fallible {
        self.for_each_client(|client, world| client.settle(world))
    }

    fn for_each_client(&self, ask: impl Fn(&mut dyn Client, &World) -> Step) -> Fallible {
        for client in &self.clients {
            let mut client = client.client();
            match ask(client.as_mut(), &self.world) {
                Ok(()) => {}
                Err(Trouble::Cut(what) | Trouble::Wrong(what)) => {
                    return Err(format!("{}: {what}", client.name()));
                }
            }
        }
        Ok(())
    }

    fn verify(&self) -> Fallible<Vec<Vec<u8>>> {
        verify::verify(&self.world, &self.clients)
    }

    fn look_at_resources(&mut self) -> Fallible {
        self.life.wait_until_nothing_is_left()?;
        let beyond_data = self.memory()?.beyond_data();
        let most = &mut self.found.at_rest_bytes_max;
        *most = beyond_data.max(*most);
        self.life.at_rest.push(beyond_data);
        let most = &mut self.found.pool_thread_count_max;
        *most = self.life.pool_thread_count.max(*most);
        resources::judge_pool(self.life.pool_thread_count)?;
        resources::judge_at_rest(&self.life.at_rest)
    }

    fn end_life(&mut self) -> Fallible {
        self.world.tally.add("restarts at rest", 1);
        self.world.gate.announce_end();
        self.life.daemon.ask_to_end()?;
        self.life_has_ended()
    }

    fn restart_at_work(&mut self) -> Fallible {
        self.world.tally.add("restarts at work", 1);
        self.weather
            .clear_for_end(&mut self.life.control, &self.world)?;
        self.world.gate.announce_end();
        self.life.daemon.ask_to_end()?;
        let world = self.world.clone();
        world.gate.wait_until_idle(|| {
            std::thread::sleep(LOOK_INTERVAL);
            Ok(())
        })?;
        world.gate.failure().map_or(Ok(()), Err)?;
        self.life_has_ended()?;
        self.begin_life()
    }

    fn life_has_ended(&mut self) -> Fallible {
        self.life.daemon.wait()?;
        self.weather.forget(&self.world);
        let looks = &self.life.at_rest;
        let found = &mut self.found;
        found.growth_bytes_max = resources::growth(looks).max(found.growth_bytes_max);
        found.looks_in_a_life_max = looks.len().max(found.looks_in_a_life_max);
        found.descriptor_count = self.life.descriptors.values().sum();
        let threads = &self.life.threads;
        found.thread_count = threads.values().sum::<usize>() - resources::in_pool(threads);
        Ok(())
    }

    fn begin_life(&mut self) -> Fallible {
        self.life = Life::begin(&self.program, &self.world)?;
        self.for_each_client(|client, world| client.restarted(world))?;
        self.settle()?;
        self.verify()?;
        Ok(())
    }
}

impl Life {
    fn begin(program: &std::path::Path, world: &World) -> Fallible<Self> {
        let (daemon, mut control) = Daemon::start(program, &world.folder, super::DOCUMENT)?;
        warm_up(&mut control, world)?;
        let pid = daemon.pid();
        let mut life = Self {
            daemon,
            control,
            descriptors: Counts::new(),
            threads: Counts::new(),
            pool_thread_count: 0,
            at_rest: Vec::new(),
        };
        life.wait_for(|life| {
            let connections = life.control.inspect("connections")?;
            let count = connections.as_object().map_or(0, serde_json::Map::len);
            let is_still = count == 0;
            Ok(is_still
                .then_some(())
                .ok_or_else(|| format!("{count} connections were left")))
        })?;
        life.descriptors = resources::descriptors(pid)?;
        life.threads = resources::threads(pid)?;
        Ok(life)
    }

    fn wait_until_nothing_is_left(&mut self) -> Fallible {
        let pid = self.daemon.pid();
        self.wait_for(|life| {
            let descriptors = resources::descriptors(pid)?;
            let threads = resources::threads(pid)?;
            life.pool_thread_count = resources::in_pool(&threads);
            Ok(
                resources::left_over("descriptors", &life.descriptors, &descriptors)
                    .and_then(|()| resources::left_over("threads", &life.threads, &threads)),
            )
        })
    }

    /// What clients have left goes within moments; what has not gone after a time that only a leak reaches stays.
    fn wait_for(
        &mut self,
        mut look: impl FnMut(&mut Self) -> Fallible<Result<(), String>>,
    ) -> Fallible {
        let begun = Instant::now();
        loop {
            match look(self)? {
                Ok(()) => return Ok(()),
                Err(what) if begun.elapsed() > TIME_MAX / 4 => return Err(what),
                Err(_) => std::thread::sleep(LOOK_INTERVAL),
            }
        }
    }
}

/// Has the daemon make what is made once and kept, such as the timer's thread, before it is looked at.
fn warm_up(control: &mut Control, world: &World) -> Fallible {
    let path = EXPORTS[NESTED].fault_path.expect("it has a faulty disk");
    let rule = r#"{"action": {"delay": {"fixed_ms": 1}}}"#;
    let number = control.set(&format!("{path}/rules/add"), rule.into())?;
    let name = EXPORTS[NESTED].name;
    let used = super::wire::Wire::connect(&super::daemon::socket(&world.folder), name).and_then(
        |mut wire| {
            wire.read(0, 512)?;
            wire.request(Command::Flush, 0, 0, &[])?;
            wire.disconnect()
        },
    );
    used.map_err(|error| format!("{name}: {error}"))?;
    control.set(&format!("{path}/rules/{number}/remove"), true.into())?;
    Ok(())
}
