//! What an image says is to be run, and what of it a command line changes.

use oci_spec::image::ImageConfiguration;
use serde::Deserialize;

/// What is to be run, and how. What an image does not say is empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// The program, and arguments that it always gets.
    pub entrypoint: Vec<String>,
    /// The arguments that it gets if nothing else is said; without an entrypoint, the program and its arguments.
    pub cmd: Vec<String>,
    /// Variables, `NAME=value`.
    pub env: Vec<String>,
    /// The user, `USER[:GROUP]`.
    pub user: Option<String>,
    /// The working directory.
    pub workdir: Option<String>,
    /// The signal that asks it to end.
    pub stop_signal: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
}

/// What a command line changes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// A program in the place of the entrypoint; an empty one is none. The image's arguments are not for it.
    pub entrypoint: Option<String>,
    /// Arguments in the place of the image's.
    pub command: Vec<String>,
    /// Further variables, or other values.
    pub env: Vec<String>,
    /// Another user.
    pub user: Option<String>,
    /// Another working directory.
    pub workdir: Option<String>,
    /// Another signal.
    pub stop_signal: Option<String>,
    /// Another host name.
    pub hostname: Option<String>,
}

/// The part of docker's configurations that is in no standard.
#[derive(Default, Deserialize)]
struct Beyond {
    #[serde(default)]
    config: Option<BeyondConfig>,
}

#[derive(Deserialize)]
struct BeyondConfig {
    #[serde(default, rename = "Hostname")]
    hostname: Option<String>,
}

/// A value, if it says anything.
fn said(value: Option<&String>) -> Option<String> {
    value.filter(|v| !v.is_empty()).cloned()
}

fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

impl Settings {
    /// What a configuration says; `bytes` are its text.
    pub(crate) fn of(config: &ImageConfiguration, bytes: &[u8]) -> Self {
        let beyond: Beyond = serde_json::from_slice(bytes).unwrap_or_default();
        let Some(config) = config.config() else { return Self::default() };
        Self {
            entrypoint: config.entrypoint().clone().unwrap_or_default(),
            cmd: config.cmd().clone().unwrap_or_default(),
            env: config.env().clone().unwrap_or_default(),
            user: said(config.user().as_ref()),
            workdir: said(config.working_dir().as_ref()),
            stop_signal: said(config.stop_signal().as_ref()),
            hostname: said(beyond.config.and_then(|c| c.hostname).as_ref()),
        }
    }

    /// The same with changes.
    #[must_use]
    pub fn changed(mut self, changes: &Changes) -> Self {
        if let Some(entrypoint) = &changes.entrypoint {
            self.entrypoint = Some(entrypoint).filter(|e| !e.is_empty()).cloned().into_iter().collect();
            self.cmd.clear();
        }
        if !changes.command.is_empty() {
            self.cmd.clone_from(&changes.command);
        }
        for variable in &changes.env {
            match self.env.iter_mut().find(|old| name(old) == name(variable)) {
                Some(old) => old.clone_from(variable),
                None => self.env.push(variable.clone()),
            }
        }
        Self {
            user: said(changes.user.as_ref()).or(self.user),
            workdir: said(changes.workdir.as_ref()).or(self.workdir),
            stop_signal: said(changes.stop_signal.as_ref()).or(self.stop_signal),
            hostname: said(changes.hostname.as_ref()).or(self.hostname),
            ..self
        }
    }

    /// The program and its arguments; empty if nothing says what is to be run.
    pub fn argv(&self) -> Vec<String> {
        [self.entrypoint.as_slice(), &self.cmd].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Settings {
        let words = |w: &[&str]| w.iter().map(|w| (*w).to_string()).collect();
        Settings {
            entrypoint: words(&["/entry", "-e"]),
            cmd: words(&["serve", "-v"]),
            env: words(&["PATH=/bin", "A=1"]),
            user: Some("me".into()),
            ..Settings::default()
        }
    }

    fn changed(entrypoint: Option<&str>, command: &[&str]) -> String {
        let command = command.iter().map(|w| (*w).to_string()).collect();
        image().changed(&Changes { entrypoint: entrypoint.map(String::from), command, ..Changes::default() }).argv().join(" ")
    }

    #[test]
    fn commands_are_dockers() {
        assert_eq!(changed(None, &[]), "/entry -e serve -v");
        assert_eq!(changed(None, &["ls", "/"]), "/entry -e ls /");
        assert_eq!(changed(Some("sh"), &[]), "sh");
        assert_eq!(changed(Some("sh"), &["-c", "id"]), "sh -c id");
        assert_eq!(changed(Some(""), &["id"]), "id");
        assert_eq!(changed(Some(""), &[]), "");
    }

    #[test]
    fn the_rest_is_added_or_replaced() {
        let changes = Changes {
            env: vec!["A=2".into(), "B=3".into(), "B=4".into()],
            user: Some(String::new()),
            workdir: Some("/w".into()),
            ..Changes::default()
        };
        let found = image().changed(&changes);
        assert_eq!(found.env, ["PATH=/bin", "A=2", "B=4"]);
        assert_eq!((found.user.as_deref(), found.workdir.as_deref(), found.hostname), (Some("me"), Some("/w"), None));
    }

    #[test]
    fn a_configuration_is_read() {
        let text = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{"Hostname":"h","User":"",
            "Cmd":null,"Entrypoint":["/e"],"Env":["A=b"],"WorkingDir":"/w","StopSignal":"SIGQUIT","ExposedPorts":{"80/tcp":{}},"Volumes":null}}"#;
        let found = Settings::of(&serde_json::from_slice(text).expect("a configuration"), text);
        assert_eq!((found.entrypoint.join(" "), found.cmd.len(), found.env.join(" ")), ("/e".into(), 0, "A=b".into()));
        assert_eq!((found.user, found.workdir.as_deref()), (None, Some("/w")));
        assert_eq!((found.stop_signal.as_deref(), found.hostname.as_deref()), (Some("SIGQUIT"), Some("h")));
    }
}
