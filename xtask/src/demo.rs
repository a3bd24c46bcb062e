//! The demo: three nodes, a workflow on real files, and a check of its result.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::prepare::{self, docker_answers, is_there, run};

/// Where the workflow finds its input: the default of its parameter `dir`.
const DIR: &str = "/tmp/heliox-demo";
/// Marks the directory above as ours, so that it may be removed.
const MARK: &str = ".made-by-the-heliox-demo";
const IMAGE: &str = "heliox/busybox:demo";
const MANIFEST: &str = "manifests/data-load.yaml";
const PARTITIONS: u64 = 6;
/// About 10 MB of input.
const ROWS: u64 = 750_000;

/// The number of rows and their sum, by partition.
type Totals = BTreeMap<u64, (u64, u64)>;

/// Runs the demo with a container runtime.
pub(crate) fn demo(runtime: &str) -> Result<()> {
    say("building (the first time takes some minutes)");
    run(Command::new("cargo").args(["build", "-q", "--workspace", "--bins"]))?;
    let runtime = choose(runtime)?;
    let mut cleanup = Cleanup::default();
    make_dir()?;
    cleanup.dir = true;
    let wanted = write_input()?;
    if runtime == "docker" {
        import_image()?;
        cleanup.image = true;
    }
    let port = free_port()?;
    let server = format!("http://127.0.0.1:{port}");
    say(&format!("starting heliox dev with three nodes ({runtime})"));
    let dev = Command::new(program("heliox"))
        .args([
            "dev",
            "--nodes",
            "3",
            "--runtime",
            runtime,
            "--listen",
            &format!("127.0.0.1:{port}"),
        ])
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start heliox dev")?;
    cleanup.dev = Some(dev);
    wait_until_ready(port, &mut cleanup)?;
    say(&format!("hctl apply -f {MANIFEST}"));
    run(hctl(&server).args(["apply", "-f", MANIFEST]))?;
    say("hctl get tasks --watch");
    let watch = hctl(&server).args(["get", "tasks", "--watch"]).spawn().context("start hctl")?;
    cleanup.watch = Some(watch);
    run(hctl(&server).args(["wait", "workflow/data-load", "--for=succeeded", "--timeout", "5m"]))?;
    // The last output of the watch comes at once.
    run(Command::new("sleep").arg("0.5"))?;
    cleanup.end_watch();
    say("hctl get runs; hctl get tasks -o wide");
    run(hctl(&server).args(["get", "runs"]))?;
    run(hctl(&server).args(["get", "tasks", "-o", "wide"]))?;
    let outcome = check(&wanted);
    drop(cleanup);
    outcome?;
    say("the totals are those of a plain computation, each made beside its partition's leader");
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a chore tells the person who runs it what it does")]
fn say(what: &str) {
    eprintln!("\n== {what}");
}

#[expect(clippy::print_stdout, reason = "the demo's result")]
fn print(text: &str) {
    println!("{text}");
}

fn program(name: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    target.join("debug").join(name)
}

fn hctl(server: &str) -> Command {
    let mut command = Command::new(program("hctl"));
    command.args(["--server", server]);
    command
}

fn choose(runtime: &str) -> Result<&'static str> {
    match runtime {
        "process" => Ok("process"),
        "docker" => {
            prepare::docker()
                .context("or run `make demo RUNTIME=process`, which needs no Docker")?;
            Ok("docker")
        }
        "auto" if docker_answers() && is_there("busybox") => Ok("docker"),
        "auto" => Ok("process"),
        other => bail!("RUNTIME={other}: write auto, docker or process"),
    }
}

/// Creates the directory of the demo. That of an earlier demo is replaced, and anything else is
/// left alone.
fn make_dir() -> Result<()> {
    let dir = Path::new(DIR);
    if dir.join(MARK).is_file() {
        fs::remove_dir_all(dir).with_context(|| format!("remove {DIR}"))?;
    }
    fs::create_dir(dir).with_context(|| {
        format!("cannot create {DIR} (remove it if it exists and is not needed)")
    })?;
    fs::write(dir.join(MARK), b"")?;
    Ok(())
}

/// Writes rows of `number,amount`, and computes the result that the workflow should get.
fn write_input() -> Result<Totals> {
    let path = Path::new(DIR).join("input.csv");
    let mut file = BufWriter::new(fs::File::create(&path)?);
    let mut totals = Totals::new();
    let mut state = 42_u64;
    for number in 0..ROWS {
        // Knuth's MMIX generator. Any numbers will do, as long as they are the same each time.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let amount = (state >> 33) % 1_000_000;
        writeln!(file, "{number},{amount}")?;
        let total = totals.entry(number % PARTITIONS).or_default();
        *total = (total.0 + 1, total.1 + amount);
    }
    file.flush()?;
    let bytes = fs::metadata(&path)?.len();
    say(&format!("wrote {} ({ROWS} rows, {} MB)", path.display(), bytes / 1_000_000));
    Ok(totals)
}

/// Imports an image that contains only the static busybox. It takes the name of the image of an
/// earlier demo, which is removed, since it would have no name any more.
fn import_image() -> Result<()> {
    say(&format!("creating the image {IMAGE} from the static busybox"));
    if !is_there("busybox") {
        bail!("busybox is needed for the image: apt-get install busybox-static");
    }
    let script = format!(
        "set -e; old=$(docker images -q {IMAGE}); root=$(mktemp -d); mkdir -p $root/bin $root/tmp; cp $(command -v busybox) $root/bin/; \
         for applet in $(busybox --list); do [ -e $root/bin/$applet ] || ln -s busybox $root/bin/$applet; done; \
         tar -C $root -c . | docker import -c 'ENV PATH=/bin' - {IMAGE} >/dev/null; rm -rf $root; \
         [ -z \"$old\" ] || docker rmi $old >/dev/null 2>&1 || true"
    );
    run(Command::new("sh").arg("-c").arg(script))
}

/// A port that nobody listens on. It is passed to the server at once.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_until_ready(port: u16, cleanup: &mut Cleanup) -> Result<()> {
    for _ in 0..300 {
        if let Some(dev) = cleanup.dev.as_mut()
            && let Some(status) = dev.try_wait()?
        {
            bail!("heliox dev exited at once: {status}");
        }
        if is_ready(port).unwrap_or(false) {
            return Ok(());
        }
        run(Command::new("sleep").arg("0.1"))?;
    }
    bail!("heliox dev is not ready after 30 s")
}

fn is_ready(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

/// Compares what the tasks wrote with the expected result, and prints it.
fn check(wanted: &Totals) -> Result<()> {
    let mut table = format!("\n{:<10} {:>8} {:>14}  {}\n", "PARTITION", "ROWS", "SUM", "LOADED ON");
    let mut wrong = Vec::new();
    for (partition, (rows, sum)) in wanted {
        let path = Path::new(DIR).join(format!("totals/mydb-{partition}"));
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [got_rows, got_sum, node] = fields.as_slice() else {
            bail!("{} holds {text:?}", path.display());
        };
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            table,
            "{:<10} {got_rows:>8} {got_sum:>14}  {node}",
            format!("mydb-{partition}")
        );
        let leader = format!("node-{}", partition % 3 + 1);
        if *got_rows != rows.to_string() || *got_sum != sum.to_string() {
            wrong.push(format!("mydb-{partition}: {rows} rows and a sum of {sum} were expected"));
        }
        if *node != leader {
            wrong.push(format!("mydb-{partition} was loaded on {node}; its leader is {leader}"));
        }
    }
    print(&table);
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

/// Cleans up, however the demo ends.
#[derive(Debug, Default)]
struct Cleanup {
    dir: bool,
    image: bool,
    dev: Option<Child>,
    watch: Option<Child>,
}

impl Cleanup {
    fn end_watch(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            // It may have ended by itself.
            let _gone = watch.kill();
            let _reaped = watch.wait();
        }
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        self.end_watch();
        if let Some(mut dev) = self.dev.take() {
            // TERM lets it remove the containers that it made.
            let _asked = run(Command::new("kill").args(["-TERM", &dev.id().to_string()]));
            let _reaped = dev.wait();
        }
        if self.image {
            let _best_effort = Command::new("docker")
                .args(["image", "rm", IMAGE])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        if self.dir {
            let _best_effort = fs::remove_dir_all(DIR);
        }
    }
}
