//! What a worker tells as events.

use pod_runtime::spec::{ContainerState, ContainerStatus, NoteKind};

use super::about::{container_field, field, full_name, image_of};
use super::events::Note;
use super::image::Found;
use super::refused::Blocked;
use super::worker::Worker;

impl Worker {
    /// Tells what stands in a pod's way.
    pub(crate) fn tell_blocked(&self, blocked: &Blocked) {
        let note = match blocked {
            Blocked::Image { container, reason, message } => {
                self.tell_image(container, reason, message);
                return;
            }
            Blocked::Pull { container, image, message } => {
                let message = format!("Failed to pull image {image:?}: {message}");
                self.tell_of(container, "Warning", "Failed", message);
                self.tell_of(container, "Warning", "Failed", "Error: ErrImagePull".to_owned());
                return;
            }
            Blocked::Over => return,
            Blocked::Config { container, message } | Blocked::Port { container, message } => {
                let message = format!("Error: {message}");
                Note::container("Warning", "Failed", message, field(container))
            }
            Blocked::Volume { message } => Note::pod("Warning", "FailedMount", message.clone()),
            Blocked::Runtime { message } => {
                let message = format!("Failed to create pod sandbox: {message}");
                Note::pod("Warning", "FailedCreatePodSandBox", message)
            }
        };
        self.tell(&note);
    }

    fn tell_image(&self, container: &str, reason: &str, message: &str) {
        let of = |reason, message| Note::container("Warning", reason, message, field(container));
        let event =
            if reason == "InvalidImageName" { "InspectFailed" } else { "ErrImageNeverPull" };
        self.tell(&of(event, message.to_owned()));
        self.tell(&of("Failed", format!("Error: {reason}")));
    }

    /// Tells what a shim found worth telling since the last time.
    pub(crate) fn tell_notes(&mut self, notes: &[pod_runtime::spec::Note]) {
        let newest = notes.last().map_or(0, |note| note.number);
        let told = self.noted.replace(newest).unwrap_or(newest);
        for note in notes.iter().filter(|note| note.number > told) {
            let (kind, reason) = match note.kind {
                NoteKind::Unhealthy => ("Warning", "Unhealthy"),
                NoteKind::Killing => ("Normal", "Killing"),
                NoteKind::BackOff => ("Warning", "BackOff"),
            };
            let message = match note.kind {
                NoteKind::BackOff => format!("{} in pod {}", note.message, full_name(&self.pod)),
                NoteKind::Unhealthy | NoteKind::Killing => note.message.clone(),
            };
            let place = container_field(&self.pod, &note.container);
            self.tell(&Note::container(kind, reason, message, place));
        }
    }

    /// Tells, once, that a container has been started.
    pub(crate) fn tell_started(&mut self, container: &ContainerStatus) {
        let name = &container.name;
        let known = self.told.get(name).is_some_and(|run| *run >= container.restarts);
        if matches!(container.state, ContainerState::Waiting { .. }) || known {
            return;
        }
        self.told.insert(name.clone(), container.restarts);
        let place = container_field(&self.pod, name);
        let image = image_of(&self.pod, name);
        let of = |kind, reason, message| Note::container(kind, reason, message, place.clone());
        // Of others it was told when they were looked for.
        if Found::of_this_machine(image).is_some() {
            let present = format!("Container image {image:?} already present on machine");
            self.tell(&of("Normal", "Pulled", present));
        }
        self.tell(&of("Normal", "Created", format!("Created container: {name}")));
        match &container.state {
            ContainerState::Terminated { reason, message, .. } if reason == "StartError" => {
                self.tell(&of("Warning", "Failed", format!("Error: {message}")));
            }
            _ => self.tell(&of("Normal", "Started", format!("Started container {name}"))),
        }
    }
}
