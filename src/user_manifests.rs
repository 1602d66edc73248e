//! The user's own workload: Kubernetes manifests in the files of one directory, as `kubectl apply` takes them.
//!
//! Takes a directory and gives its objects, each with its place in the files, or an error for the first object that
//! can't go into a namespace of a run. [`crate::workload`] checks whether the cluster knows an object's kind. The
//! objects may hold secrets, so they are neither printed nor recorded.
//! [`PlannedManifests`](crate::plan::PlannedManifests) is what a plan keeps of them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_saphyr::{Spanned, UserMessageFormatter, from_multiple_with_options, options};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::file;
use crate::scenario::{ObjectName, ServiceRequest};

/// Size of the largest accepted file, in bytes: room for several objects of the largest size that an API server
/// accepts.
const LARGEST: u64 = 4 << 20;
/// The file name extensions of manifests.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// All manifests in a directory.
#[derive(Debug, Clone)]
pub struct Manifests {
    /// The directory, as the user named it.
    pub path: String,
    /// The SHA-256 hash of the contents of the files, in order.
    pub sha256: String,
    /// The objects in the order in which they are written, with files ordered by name.
    pub objects: Vec<Manifest>,
}

/// One object.
#[derive(Clone)]
pub struct Manifest {
    /// The object's place: `FILE:LINE`.
    pub place: String,
    /// The group and version of its kind.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: ObjectName,
    /// The whole object.
    pub object: Value,
}

impl fmt::Display for Manifest {
    /// Kind and name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name.as_str())
    }
}

impl fmt::Debug for Manifest {
    /// Shows kind, name and place, but no contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({})", self.place)
    }
}

impl Manifest {
    /// The group of its kind; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

impl Manifests {
    /// Reads every manifest file of a directory, except hidden files. Does not descend into subdirectories.
    ///
    /// # Errors
    /// If the directory does not exist or holds no object, or if something in it is not an object that can go into a
    /// namespace of a run.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut all =
            Self { path: directory.to_string_lossy().into_owned(), sha256: String::new(), objects: Vec::new() };
        let mut contents = Sha256::new();
        for path in files(directory)? {
            let unreadable = |why| Error::usage(format!("cannot read {}: {why}", path.display()));
            let text = file::read(&path, LARGEST).map_err(unreadable)?;
            contents.update(&text);
            all.take_file(&path.display().to_string(), &text)?;
        }
        if all.objects.is_empty() {
            return Err(Error::usage(format!("the files of manifests in {} hold no object", all.path)));
        }
        all.sha256 = contents.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        all.are_unique()?;
        Ok(all)
    }

    /// Checks that one of the objects is a Service of that name with that port.
    ///
    /// # Errors
    /// If there is none. The error lists the Services or ports that exist.
    pub fn serve(&self, request: &ServiceRequest) -> Result<()> {
        let services = self.objects.iter().filter(|o| o.kind == "Service" && o.group().is_empty());
        let ports = |service: &Manifest| -> Vec<u64> {
            let ports = service.object.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
            ports.filter_map(|port| port.get("port")?.as_u64()).collect()
        };
        let there: BTreeMap<&str, Vec<u64>> = services.map(|s| (s.name.as_str(), ports(s))).collect();
        let wrong = match there.get(&*request.name) {
            Some(ports) if ports.contains(&request.port.into()) => return Ok(()),
            Some(ports) => {
                format!("Service {} of {} has no port {}, but {ports:?}", request.name, self.path, request.port)
            }
            None => format!("there is no Service {} in {}", request.name, self.path),
        };
        let names: Vec<&str> = there.into_keys().collect();
        let next = match &names[..] {
            [] => "there is no Service at all; one of the cluster's is service/NAMESPACE/NAME:PORT".to_owned(),
            names => format!("there is {}; one of the cluster's is service/NAMESPACE/NAME:PORT", names.join(", ")),
        };
        Err(Error::usage(wrong).next(next))
    }

    fn take_file(&mut self, file: &str, text: &str) -> Result<()> {
        let options = options! {
            // Parse YAML as Kubernetes does: `mode: 0644` is octal, `yes` is true.
            legacy_octal_numbers: true,
            reject_unsupported_tags: true,
            // The text may contain a secret.
            with_snippet: false,
        };
        let documents: Vec<Spanned<Value>> = from_multiple_with_options(text, options).map_err(|error| {
            let line = error.location().map_or(1, |at| at.line());
            Error::usage(format!(
                "{file}:{line}: it can't be read as YAML or JSON: {}",
                error.render_with_formatter(&UserMessageFormatter)
            ))
        })?;
        documents
            .into_iter()
            .try_for_each(|document| self.take_object(format!("{file}:{}", document.referenced.line()), document.value))
    }

    /// Takes an object, or the objects of a list.
    fn take_object(&mut self, place: String, mut object: Value) -> Result<()> {
        let wrong = |what: String| Error::usage(format!("{place}: {what}"));
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        if !object.is_object() {
            return Err(wrong("this is no object of Kubernetes, which has `apiVersion`, `kind` and `metadata`".into()));
        }
        let [api_version, kind] =
            ["apiVersion", "kind"].map(|key| text(&format!("/{key}")).map(str::to_owned).ok_or(key));
        let missing = |key: &str| wrong(format!("the object has no `{key}`"));
        let (api_version, kind) = (api_version.map_err(missing)?, kind.map_err(missing)?);
        // Both become part of an API path.
        let plain = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        if !(plain(&api_version, "-./") && plain(&kind, "")) || api_version.contains("..") {
            return Err(wrong(format!("{api_version:?} and {kind:?} are no version and kind of an API")));
        }
        if (&*api_version, &*kind) == ("v1", "List") {
            let items = object.get_mut("items").map(Value::take);
            let Some(Value::Array(items)) = items else { return Err(wrong("the List has no `items`".into())) };
            return items
                .into_iter()
                .enumerate()
                .try_for_each(|(nth, item)| self.take_object(format!("{place}, item {}", nth + 1), item));
        }
        let Some(name) = text("/metadata/name") else {
            return Err(wrong(format!("the {kind} has no `metadata.name`, by which it could be told from others")));
        };
        let name = name.parse().map_err(|why| wrong(format!("the {kind} is called {name:?}: {why}")))?;
        if let Some(namespace) = text("/metadata/namespace") {
            let what = format!("{kind} {name} has a namespace of its own, {namespace:?}");
            return Err(wrong(what).next(
                "leave `metadata.namespace` out: each run puts it into a namespace of the run, and removes that; what is \
                 in the cluster already needs no --manifests",
            ));
        }
        self.objects.push(Manifest { place, api_version, kind, name, object });
        Ok(())
    }

    fn are_unique(&self) -> Result<()> {
        let mut seen = BTreeMap::new();
        for object in &self.objects {
            if let Some(first) = seen.insert((object.group(), &*object.kind, object.name.as_str()), object) {
                return Err(Error::usage(format!("{}: {object} is in {} already", object.place, first.place)));
            }
        }
        Ok(())
    }
}

/// The files to read, ordered by name.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |why| Error::usage(format!("cannot read the manifests in {}: {why}", directory.display()));
    let mut files = Vec::new();
    for entry in directory.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && ENDINGS.into_iter().any(|ending| path.extension() == Some(OsStr::new(ending))) {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Error::usage(format!("there are no manifests in {}", directory.display()))
            .next("they are the files *.yaml, *.yml and *.json directly in it"));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";

    /// Reads a directory with files of these names and texts.
    fn read(files: &[(&str, &str)]) -> Result<Manifests> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Manifests::read(directory.path())
    }

    fn listed(manifests: &Manifests) -> Vec<String> {
        manifests.objects.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_document_of_every_file_is_taken_in_the_order_of_their_names() {
        let json = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"ConfigMap\",\n\t\"metadata\": {\"name\": \"set\"}\n}\n";
        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n\
            - apiVersion: v1\n  kind: List\n  items: [{apiVersion: v1, kind: Pod, metadata: {name: b}}]\n";
        let two = format!("# nothing\n---\n{WEB}---\n---\n{}", WEB.replace("web", "other"));
        let all = read(&[
            ("b.yml", list),
            ("a.yaml", &two),
            ("c.json", json),
            (".hidden.yaml", "{"),
            ("README.md", "{"),
            ("empty.yaml", "# to come\n"),
        ])
        .unwrap();
        assert_eq!(listed(&all), ["Service web", "Service other", "Pod a", "Pod b", "ConfigMap set"]);
        let places: Vec<_> = all.objects.iter().map(|o| o.place.rsplit('/').next().unwrap()).collect();
        assert_eq!(places, ["a.yaml:3", "a.yaml:9", "b.yml:1, item 1", "b.yml:1, item 2, item 1", "c.json:1"]);
    }

    #[test]
    fn values_are_what_kubernetes_takes_them_for() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nmode: 0644\nbare: yes\nquoted: \"yes\"\n\
            base: &b {one: 1}\nmerged: {<<: *b, two: 2}\n";
        let all = read(&[("a.yaml", text)]).unwrap();
        let object = &all.objects[0].object;
        assert_eq!((object["mode"].as_i64(), &object["bare"]), (Some(420), &Value::Bool(true)));
        assert_eq!((object["quoted"].as_str(), object["merged"]["one"].as_i64()), (Some("yes"), Some(1)));
    }

    #[test]
    fn the_sum_is_that_of_the_contents_in_the_order_of_the_files() {
        let sum = |files: &[(&str, &str)]| read(files).unwrap().sha256;
        let other = WEB.replace("web", "other");
        let both = sum(&[("a.yaml", WEB), ("b.yaml", &other)]);
        let whole: String = Sha256::digest(format!("{WEB}{other}")).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(both, whole);
        assert_ne!(both, sum(&[("b.yaml", WEB), ("a.yaml", &other)]));
        // Files that are not read do not change the hash.
        assert_eq!(both, sum(&[("a.yaml", WEB), ("b.yaml", &other), ("notes.txt", "x")]));
    }

    #[test]
    fn what_can_not_be_put_in_is_refused_with_its_place() {
        let second = |text: &str| format!("{WEB}---\n{text}");
        for (text, place, why) in [
            ("a: [1".to_owned(), "a.yaml:", "can't be read as YAML or JSON"),
            (second("a: b: c\n"), "a.yaml:6", "can't be read as YAML or JSON"),
            (second("kind: Pod\nkind: Pod\n"), "a.yaml:7", "can't be read as YAML or JSON"),
            (second("just text\n"), "a.yaml:6", "no object of Kubernetes"),
            (second("- a\n"), "a.yaml:6", "no object of Kubernetes"),
            (WEB.replace("apiVersion: v1\n", ""), "a.yaml:1", "no `apiVersion`"),
            (WEB.replace("kind: Service\n", ""), "a.yaml:1", "no `kind`"),
            (WEB.replace("kind: Service", "kind: 5"), "a.yaml:1", "no `kind`"),
            (WEB.replace("apiVersion: v1", "apiVersion: ../../v1"), "a.yaml:1", "no version and kind"),
            (WEB.replace("kind: Service", "kind: a/b"), "a.yaml:1", "no version and kind"),
            (WEB.replace("{name: web}", "{generateName: web-}"), "a.yaml:1", "no `metadata.name`"),
            (WEB.replace("metadata: {name: web}\n", ""), "a.yaml:1", "no `metadata.name`"),
            (WEB.replace("{name: web}", "{name: ../x}"), "a.yaml:1", "an object's name is"),
            (
                WEB.replace("{name: web}", "{name: web, namespace: shop}"),
                "a.yaml:1",
                "a namespace of its own, \"shop\"",
            ),
            (second(WEB), "a.yaml:6", "Service web is in"),
            ("apiVersion: v1\nkind: List\n".to_owned(), "a.yaml:1", "has no `items`"),
            ("apiVersion: v1\nkind: List\nitems: [{kind: Pod}]\n".to_owned(), "a.yaml:1, item 1", "no `apiVersion`"),
            ("# nothing\n".to_owned(), "", "hold no object"),
        ] {
            let error = read(&[("a.yaml", &text)]).expect_err(&text);
            let told = error.to_string();
            assert!(told.contains(place) && told.contains(why), "{text:?}: {told}");
            assert_eq!(error.exit(), crate::error::Exit::Usage, "{told}");
        }
        // Two objects of the same name but different kinds are accepted.
        read(&[("a.yaml", &second(&WEB.replace("Service", "ConfigMap")))]).unwrap();
    }

    #[test]
    fn what_is_no_directory_of_manifests_is_refused() {
        let told = read(&[("notes.txt", WEB), (".a.yaml", WEB)]).unwrap_err().to_string();
        assert!(told.contains("no manifests in"), "{told}");
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path().join("none"), {
            let file = directory.path().join("file.yaml");
            fs::write(&file, WEB).unwrap();
            file
        }] {
            let told = Manifests::read(&path).unwrap_err().to_string();
            assert!(told.contains("cannot read the manifests in"), "{told}");
        }
        fs::create_dir(directory.path().join("below.yaml")).unwrap();
        let told = Manifests::read(directory.path()).unwrap_err().to_string();
        assert!(told.contains("it is not a file"), "{told}");
    }

    #[test]
    fn a_huge_file_is_not_read_to_its_end_and_a_small_one_does_not_become_huge() {
        let comment = format!("#{}\n", " ".repeat(usize::try_from(LARGEST).unwrap()));
        let told = read(&[("a.yaml", &comment)]).unwrap_err().to_string();
        assert!(told.contains("larger than 4096 KiB"), "{told}");
        let doubled = |n: u8| format!("{}: &{0} [{}]\n", n as char, format!("*{}, ", (n - 1) as char).repeat(10));
        let bomb = format!("a: &a [{}]\n{}", "x, ".repeat(10), (b'b'..=b'i').map(doubled).collect::<String>());
        let told = read(&[("a.yaml", &bomb)]).unwrap_err().to_string();
        assert!(told.contains("can't be read as YAML or JSON"), "{told}");
    }

    #[test]
    fn nothing_that_an_object_holds_is_told() {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData: {key: hunter2}\n";
        let all = read(&[("a.yaml", secret)]).unwrap();
        assert!(!format!("{all:?}").contains("hunter2"), "{all:?}");
        for broken in ["hunter2: : :", "hunter2", "[hunter2", "kind: [hunter2]", "a: 1\na: hunter2"] {
            let told = read(&[("a.yaml", broken)]).unwrap_err().to_string();
            assert!(!told.contains("hunter2"), "{broken:?}: {told}");
        }
    }

    #[test]
    fn a_service_that_is_to_be_kept_alive_is_among_them_with_its_port() {
        let all = read(&[("a.yaml", WEB)]).unwrap();
        let serve = |request: &str| all.serve(&request.parse().unwrap()).map_err(|error| error.to_string());
        assert_eq!(serve("web:80/healthz"), Ok(()));
        assert!(serve("web:81").unwrap_err().contains("has no port 81, but [80]"));
        let told = serve("wed:80").unwrap_err();
        assert!(told.contains("there is no Service wed") && told.contains("there is web"), "{told}");
    }
}
