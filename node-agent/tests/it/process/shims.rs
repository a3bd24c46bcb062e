//! What becomes of a task whose shim is killed, whenever that is.

use super::*;

#[tokio::test]
async fn a_task_whose_shim_was_killed_is_ended_and_told_at_once() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let mut events = engine.events();
        // It has left a child in its group, one in a session of its own, and one that nobody is the
        // parent of any more.
        let spec = says(
            bench,
            "echo $PPID; sleep 1000 & echo $!; (sleep 1000 & echo $!); \
             setsid sh -c 'echo $$; sleep 1000' & echo $$; wait",
        );
        let (shim, mut lines) = start_and_find_shim(&*engine, &spec).await;
        let mut pids = Vec::new();
        for _ in 0..4 {
            let line = conformance::next_line(&mut lines).await;
            pids.push(std::str::from_utf8(&line.bytes).unwrap().trim().to_owned());
        }
        kill(shim, NixSignal::SIGKILL).unwrap();
        let event = events.next().await;
        assert_eq!(event, Some(EngineEvent::Changed(spec.identity.clone())));
        let state = state(&*engine, &spec.identity).await;
        let Some(ContainerState::Exited { is_unseen: true, message: Some(message), .. }) = &state
        else {
            panic!("{state:?}")
        };
        assert!(message.contains("was killed, so the task was ended"), "{message}");
        for pid in pids {
            is_gone(&pid).await;
        }
        let rest: Vec<_> = lines.map(Result::unwrap).collect().await;
        assert!(matches!(rest[..], [LogEvent::Gap]), "the log says that it was cut: {rest:?}");
        assert_eq!(self::state(&*engine, &spec.identity).await, state, "its end does not change");
        engine.remove(&spec.identity).await.unwrap();
        let log = engine.logs(&spec.identity, LogOptions::default()).await.unwrap();
        let last = log.map(Result::unwrap).collect::<Vec<_>>().await.pop();
        assert!(matches!(last, Some(LogEvent::Gap)), "also to those who read it later: {last:?}");
    })
    .await;
}

/// Starts a task whose agent ends, and whose shim is killed then, after `meanwhile`. What it is, and
/// the number of its program.
async fn shim_killed_without_agent(
    bench: &ProcessBench,
    meanwhile: impl FnOnce(&Path),
) -> (ContainerSpec, String) {
    let engine = bench.engine("a").await;
    let spec = says(bench, "echo $PPID; echo $$; exec sleep 1000");
    let (shim, mut lines) = start_and_find_shim(&*engine, &spec).await;
    let line = conformance::next_line(&mut lines).await;
    drop((lines, engine));
    meanwhile(&bench.0.path().join("a/tasks").join(spec.identity.file_stem()));
    kill(shim, NixSignal::SIGKILL).unwrap();
    (spec, std::str::from_utf8(&line.bytes).unwrap().trim().to_owned())
}

#[tokio::test]
async fn a_shim_that_was_killed_while_no_agent_was_there_is_told_to_the_next() {
    hold(bench().await, async |bench| {
        let (spec, program) = shim_killed_without_agent(bench, |_| ()).await;
        let engine = bench.engine("a").await;
        let event = engine.events().next().await;
        assert_eq!(event, Some(EngineEvent::Changed(spec.identity.clone())));
        let state = state(&*engine, &spec.identity).await;
        assert!(matches!(state, Some(ContainerState::Exited { is_unseen: true, .. })), "{state:?}");
        is_gone(&program).await;
    })
    .await;
}

/// As a shim leaves it that is killed, together with its agent, after it has started the program and
/// before it has recorded that.
#[tokio::test]
async fn a_program_that_a_killed_shim_has_not_recorded_is_ended_and_not_started_twice() {
    hold(bench().await, async |bench| {
        let unrecord = |task: &Path| std::fs::remove_file(task.join("run.json")).unwrap();
        let (spec, program) = shim_killed_without_agent(bench, unrecord).await;
        let task = bench.0.path().join("a/tasks").join(spec.identity.file_stem());
        std::fs::File::open(task.join("shim.json")).unwrap().lock_shared().unwrap();
        let engine = bench.engine("a").await;
        assert!(engine.create_and_start(&spec).await.unwrap().adopted);
        is_gone(&program).await;
        let state = state(&*engine, &spec.identity).await;
        assert!(matches!(state, Some(ContainerState::Exited { is_unseen: true, .. })), "{state:?}");
    })
    .await;
}

#[tokio::test]
async fn what_a_shim_has_started_that_ends_without_an_answer_is_ended() {
    hold(bench().await, async |bench| {
        let (running, state_dir) = (bench.0.path().join("running"), bench.0.path().join("a"));
        // Killed after the start of the program, which is in a group of its own.
        let script = format!(
            "set -m; sleep 1000 < /dev/null > /dev/null 2>&1 & echo $! > {}; kill -KILL $$",
            running.display()
        );
        let config = ProcessConfig {
            scope: Scope::new("test", "a").unwrap(),
            state_dir,
            shim: ["setsid", "sh", "-c", &script].map(OsString::from).to_vec().into(),
            clock: Clock::system(),
        };
        let engine = ProcessEngine::open(config).unwrap();
        let spec = says(bench, "true");
        let outcome = engine.create_and_start(&spec).await;
        let Err(EngineError::Failed { message }) = &outcome else { panic!("{outcome:?}") };
        assert!(message.contains("without an answer"), "{message}");
        assert_eq!(state(&engine, &spec.identity).await, None);
        is_gone(std::fs::read_to_string(running).unwrap().trim()).await;
    })
    .await;
}

/// As a shim that is killed after it has started the program, before it says so. The agent is there.
#[tokio::test]
async fn a_program_whose_shim_was_killed_before_it_answered_is_not_started_again() {
    hold(bench().await, async |bench| {
        let (starts, state_dir) = (bench.0.path().join("starts"), bench.0.path().join("a"));
        let script = format!(
            "ticks=$(cut -d')' -f2 /proc/$$/stat | cut -d' ' -f21); \
             boot=$(cat /proc/sys/kernel/random/boot_id); \
             printf '{{\"pid\":%d,\"start_ticks\":%d,\"session\":%d,\"boot_id\":\"%s\",\"started\":\"%s\"}}' \
                 $$ $ticks $$ $boot 2026-01-01T00:00:00Z > \"$0/shim.json\"; \
             set -m; sleep 1000 < /dev/null > /dev/null 2>&1 & echo $! >> {}; kill -KILL $$",
            starts.display()
        );
        let config = ProcessConfig {
            scope: Scope::new("test", "a").unwrap(),
            state_dir,
            shim: ["setsid", "sh", "-c", &script].map(OsString::from).to_vec().into(),
            clock: Clock::system(),
        };
        let engine = ProcessEngine::open(config).unwrap();
        let spec = says(bench, "true");
        let outcome = engine.create_and_start(&spec).await;
        assert!(matches!(outcome, Err(EngineError::Unknown { .. })), "{outcome:?}");
        assert!(engine.create_and_start(&spec).await.unwrap().adopted);
        let state = state(&engine, &spec.identity).await;
        assert!(matches!(state, Some(ContainerState::Exited { is_unseen: true, .. })), "{state:?}");
        let started = std::fs::read_to_string(starts).unwrap();
        assert_eq!(started.lines().count(), 1, "{started}");
        is_gone(started.trim()).await;
    })
    .await;
}

/// An agent that is killed ends nothing itself. What started the command here is a thread that ends, which
/// is as much to the kernel.
#[tokio::test]
async fn a_command_beside_a_task_ends_with_the_agent_that_started_it() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let spec = says(bench, "exec sleep 1000");
        engine.create_and_start(&spec).await.unwrap();
        let dir = bench.0.path().join("a/tasks").join(spec.identity.file_stem());
        let agent = std::thread::spawn(move || {
            let mut command = std::process::Command::new(heliox_shim())
                .arg(dir)
                .args(["sh", "-c", "echo begun; exec sleep 10"])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let output = command.stdout.take().unwrap();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
            assert_eq!(line, "begun\n");
            command
        });
        let mut command = agent.join().unwrap();
        let status = command.wait().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(9), "{status:?}");
    })
    .await;
}
