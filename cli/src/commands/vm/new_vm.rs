//! What `vm run` and `vm create` have in common: the options of a new VM, and the request they mean.

use std::collections::BTreeSet;

use banger_proto::names::{ImageName, KernelName, VmName};
use banger_proto::size::MiB;
use banger_proto::v1::{CreateVmRequest, OwnerMaterial, PublishedPort, VmSpec, WaitFor};
use clap::Args;

use crate::args::{MAX_VCPU, PortPair, Wait};
use crate::config::Config;
use crate::error::CliError;
use crate::sizing::{Flags, Host, Sizes, resolve};
use crate::view::event::SpecView;
use crate::view::mebibytes;

/// The options of a new VM.
#[derive(Debug, Args)]
#[command(next_help_heading = "VM options")]
pub struct NewVmArgs {
    /// Name of the VM: a-z, 0-9 and '-' [default: a generated one]
    #[arg(long)]
    pub name: Option<VmName>,
    /// Image to boot; fetched if it is not there yet [default: default_image of the configuration, else debian-bookworm]
    #[arg(long, add = crate::completer::images())]
    pub image: Option<ImageName>,
    /// Kernel to boot [default: the one the image names]
    #[arg(long, value_name = "NAME", add = crate::completer::kernels())]
    pub kernel_ref: Option<KernelName>,
    /// Virtual CPUs [default: a quarter of the host's, 1 to 4, 2 where the host has 2]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_VCPU)))]
    pub vcpu: Option<u32>,
    /// Memory: MiB, or with a unit like 4G or 512MiB [default: an eighth of the host's, 1 to 8 GiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<MiB>,
    /// Size of the work disk mounted at /root; takes space only as it fills [default: 8G]
    #[arg(long, value_name = "SIZE")]
    pub disk_size: Option<MiB>,
    /// Let the guest reach the internet
    #[arg(long)]
    pub nat: bool,
    /// Make the guest's TCP port GUEST reachable at 127.0.0.1:HOST; may be repeated
    #[arg(short, long, value_name = "HOST:GUEST")]
    pub publish: Vec<PortPair>,
    /// How far to wait for the VM
    #[arg(long, value_name = "HOW_FAR", default_value = "reachable")]
    pub wait: Wait,
    /// Longest wait [default: 90 for each stage]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub wait_timeout: Option<u32>,
    /// Append an argument to the kernel's command line; may be repeated (advanced)
    #[arg(long, value_name = "ARGUMENT", value_parser = kernel_argument)]
    pub kernel_arg: Vec<String>,
}

/// Everything decided about a new VM.
#[derive(Debug)]
pub struct Spec {
    name: String,
    /// Image.
    pub image: String,
    /// Empty: the image's own.
    pub kernel: String,
    /// Sizes.
    pub sizes: Sizes,
    nat: bool,
    ports: Vec<PortPair>,
    wait: WaitFor,
    /// 0: the default.
    pub wait_timeout_seconds: u32,
    kernel_arguments: Vec<String>,
}

impl NewVmArgs {
    /// Checks what clap cannot and fills in the defaults. Pure.
    ///
    /// # Errors
    /// A usage error.
    pub fn decide(self, config: &Config, host: Host) -> Result<Spec, CliError> {
        let mut host_ports = BTreeSet::new();
        if let Some(twice) = self.publish.iter().find(|pair| !host_ports.insert(pair.host)) {
            let message = format!("the host port {} is published twice", twice.host);
            return Err(CliError::usage(message).hint("Give each `--publish` a host port of its own."));
        }
        let flags = Flags { vcpu: self.vcpu, memory: self.memory, disk: self.disk_size };
        Ok(Spec {
            name: self.name.map(|name| name.to_string()).unwrap_or_default(),
            image: self.image.map_or_else(|| config.default_image().to_owned(), |image| image.to_string()),
            kernel: self.kernel_ref.map(|kernel| kernel.to_string()).unwrap_or_default(),
            sizes: resolve(flags, &config.vm_defaults, host),
            nat: self.nat,
            ports: self.publish,
            wait: self.wait.into(),
            wait_timeout_seconds: self.wait_timeout.unwrap_or(0),
            kernel_arguments: self.kernel_arg,
        })
    }
}

impl Spec {
    /// The name asked for; empty if it is to be generated.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The one line before anything happens.
    pub fn line(&self) -> String {
        let kernel = if self.kernel.is_empty() { "kernel of the image" } else { &self.kernel };
        format!(
            "spec: {} vcpu | {} MiB | {} disk | {} | {kernel}",
            self.sizes.vcpu.value,
            self.sizes.memory.value.get(),
            mebibytes(self.sizes.disk.value.get()),
            self.image,
        )
    }

    /// The same for programs.
    pub fn view(&self) -> SpecView<'_> {
        SpecView {
            vcpu: self.sizes.vcpu.value,
            memory_mib: self.sizes.memory.value.get(),
            work_disk_mib: self.sizes.disk.value.get(),
            image: &self.image,
            kernel: Some(self.kernel.as_str()).filter(|kernel| !kernel.is_empty()),
        }
    }

    /// The request that makes the VM and starts it.
    pub fn request(&self, owner: OwnerMaterial) -> CreateVmRequest {
        let published_ports = self.ports.iter();
        CreateVmRequest {
            name: self.name.clone(),
            image: self.image.clone(),
            kernel: self.kernel.clone(),
            spec: Some(VmSpec {
                vcpu_count: self.sizes.vcpu.value,
                memory_mib: self.sizes.memory.value.get(),
                work_disk_mib: self.sizes.disk.value.get(),
                nat: self.nat,
                published_ports: published_ports
                    .map(|pair| PublishedPort { host_port: pair.host.into(), guest_port: pair.guest.into() })
                    .collect(),
            }),
            owner: Some(owner),
            start: true,
            wait: self.wait.into(),
            kernel_arguments: self.kernel_arguments.clone(),
            wait_timeout_seconds: self.wait_timeout_seconds,
        }
    }
}

fn kernel_argument(text: &str) -> Result<String, String> {
    let sound = !text.is_empty() && text.chars().all(|character| character.is_ascii_graphic());
    if sound { Ok(text.to_owned()) } else { Err("write one argument without spaces, like quiet or a=b".to_owned()) }
}
