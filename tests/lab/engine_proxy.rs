//! An engine between kchaos and the real one. It passes everything on, but it may lie, and it may be out of reach.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use kchaos::cluster::docker::Endpoint;
use tempfile::TempDir;

pub struct EngineProxy {
    // The path of a socket must be short, so it is not beside the journals.
    place: TempDir,
    connected: Arc<Mutex<Connected>>,
}

#[derive(Default)]
struct Connected {
    clients: Vec<UnixStream>,
    out_of_reach: bool,
}

impl EngineProxy {
    /// With `lies`, it says to have done what is asked at a path that ends so, and does nothing.
    pub fn start(lies: Option<&'static str>) -> Result<Self, String> {
        let real = Endpoint::from_env().map_err(|e| e.to_string())?;
        let real = real.socket().ok_or("tests use a local engine")?.to_owned();
        let place = tempfile::tempdir().map_err(|e| e.to_string())?;
        let listener = UnixListener::bind(place.path().join("engine.sock")).map_err(|e| e.to_string())?;
        let connected = Arc::<Mutex<Connected>>::default();
        let all = Arc::clone(&connected);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut all = all.lock().unwrap();
                let Some(held) = client.try_clone().ok().filter(|_| !all.out_of_reach) else { continue };
                all.clients.push(held);
                let real = real.clone();
                std::thread::spawn(move || pass_on(client, &real, lies));
            }
        });
        Ok(Self { place, connected })
    }

    /// Where it is, for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.place.path().join("engine.sock").display())
    }

    /// From now on nobody gets through, and what stands is cut.
    pub fn cut(&self) {
        let mut connected = self.connected.lock().unwrap();
        connected.out_of_reach = true;
        for client in connected.clients.drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    pub fn mend(&self) {
        self.connected.lock().unwrap().out_of_reach = false;
    }
}

/// A question without a body comes in one piece.
fn pass_on(mut client: UnixStream, real: &Path, lies: Option<&str>) -> std::io::Result<()> {
    let mut engine = UnixStream::connect(real)?;
    let (mut answers, mut to_client) = (engine.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    let mut piece = vec![0; 64 << 10];
    loop {
        let asked = match client.read(&mut piece)? {
            0 => return engine.shutdown(Shutdown::Write),
            read => &piece[..read],
        };
        let text = String::from_utf8_lossy(asked);
        let mut words = text.split([' ', '?']);
        let is_change = words.next() == Some("POST");
        if is_change && words.next().zip(lies).is_some_and(|(path, about)| path.ends_with(about)) {
            client.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        } else {
            engine.write_all(asked)?;
        }
    }
}
