//! Real etcd members on free ports of this machine, which end with their owner.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base::{Rng, Tasks};
use store::{Etcd, EtcdConfig};
use tempfile::TempDir;

/// How the members are set up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Answers before the disk has it: quicker, where no member is killed.
    pub(crate) no_fsync: bool,
    /// How large the database may grow; etcd's default where nothing is said.
    pub(crate) quota_bytes: Option<u64>,
    /// `https` for clients: the certificate, its key and the authority's certificate.
    pub(crate) tls: Option<[PathBuf; 3]>,
}

/// One member.
struct Member {
    child: Option<Child>,
    client_url: String,
    arguments: Vec<String>,
}

impl Member {
    async fn listens(&self) {
        let (_, address) = self.client_url.split_once("//").unwrap();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// An etcd of one or more members.
pub(crate) struct Servers {
    members: Vec<Member>,
    dir: TempDir,
}

impl Servers {
    /// Starts `count` members and waits until they listen.
    pub(crate) async fn start(count: usize, options: &Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports: Vec<u16> = (0..2 * count).map(|_| base::reserved_port().unwrap()).collect();
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let cluster: Vec<String> =
            (0..count).map(|n| format!("m{n}=http://127.0.0.1:{}", ports[2 * n + 1])).collect();
        let members = (0..count).map(|n| {
            let client_url = format!("{scheme}://127.0.0.1:{}", ports[2 * n]);
            let peer_url = format!("http://127.0.0.1:{}", ports[2 * n + 1]);
            let data = dir.path().join(format!("m{n}"));
            let mut arguments: Vec<String> = [
                ("name", format!("m{n}")),
                ("data-dir", data.display().to_string()),
                ("listen-client-urls", client_url.clone()),
                ("advertise-client-urls", client_url.clone()),
                ("listen-peer-urls", peer_url.clone()),
                ("initial-advertise-peer-urls", peer_url),
                ("initial-cluster", cluster.join(",")),
                ("initial-cluster-state", "new".to_owned()),
                ("log-level", "error".to_owned()),
            ]
            .into_iter()
            .flat_map(|(name, value)| [format!("--{name}"), value])
            .collect();
            if options.no_fsync {
                arguments.push("--unsafe-no-fsync".to_owned());
            }
            if let Some(bytes) = options.quota_bytes {
                arguments.extend(["--quota-backend-bytes".to_owned(), bytes.to_string()]);
            }
            if let Some(files) = &options.tls {
                let names = ["--cert-file", "--key-file", "--trusted-ca-file"];
                for (name, file) in names.into_iter().zip(files) {
                    arguments.extend([name.to_owned(), file.display().to_string()]);
                }
                arguments.push("--client-cert-auth".to_owned());
            }
            Member { child: None, client_url, arguments }
        });
        let mut servers = Self { members: members.collect(), dir };
        (0..count).for_each(|member| servers.run(member));
        for member in &servers.members {
            member.listens().await;
        }
        servers
    }

    /// Starts a member (again).
    pub(crate) fn run(&mut self, member: usize) {
        let log = std::fs::File::create(self.dir.path().join(format!("m{member}.log"))).unwrap();
        let member = &mut self.members[member];
        let child = Command::new("etcd")
            .args(&member.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("etcd starts; if it is not installed: apt-get install etcd-server");
        member.child = Some(child);
    }

    /// Kills a member as a power cut would.
    pub(crate) fn kill(&mut self, member: usize) {
        if let Some(mut child) = self.members[member].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Has a member neither answer nor break a connection, until what this returns is dropped.
    pub(crate) fn hang(&self, member: usize) -> Hang {
        let child = self.members[member].child.as_ref().expect("it runs");
        signal("-STOP", child.id());
        Hang(child.id())
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client_url.clone()).collect()
    }

    /// A client of etcd's own, for what the store does not do.
    pub(crate) async fn client(&self, member: usize) -> etcd_client::Client {
        let url = &self.members[member].client_url;
        etcd_client::Client::connect([url], None).await.unwrap()
    }

    /// Which member leads.
    pub(crate) async fn leader(&self) -> usize {
        for _ in 0..300 {
            for member in 0..self.members.len() {
                if self.members[member].child.is_none() {
                    continue;
                }
                if let Ok(status) = self.client(member).await.status().await
                    && status.leader() != 0
                    && status.header().is_some_and(|it| it.member_id() == status.leader())
                {
                    return member;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no member leads")
    }
}

/// A member that hangs.
pub(crate) struct Hang(u32);

impl Drop for Hang {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

fn signal(signal: &str, process: u32) {
    let done = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(done.success(), "kill {signal} {process}");
}

impl Drop for Servers {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|member| self.kill(member));
    }
}

/// A store on `servers`, and the tasks that it runs on.
pub(crate) async fn connect(servers: &Servers, namespace: &str) -> (Etcd, Tasks) {
    let config =
        EtcdConfig { namespace: namespace.to_owned(), ..EtcdConfig::plain(servers.urls()) };
    let tasks = Tasks::new("store");
    let store = Etcd::connect(config, &Rng::from_machine(), &tasks.spawner()).await.unwrap();
    (store, tasks)
}
