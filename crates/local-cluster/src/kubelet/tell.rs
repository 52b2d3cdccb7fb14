//! What a worker tells as events.

use pod_runtime::spec::{ContainerState, ContainerStatus};

use super::about::{container_field, field, image_of};
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
            Blocked::Config { container, message } => {
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

    /// Tells, once, that a container has been started.
    pub(crate) fn tell_started(&mut self, container: &ContainerStatus) {
        let name = &container.name;
        if matches!(container.state, ContainerState::Waiting { .. }) || self.told.contains(name) {
            return;
        }
        self.told.insert(name.clone());
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
