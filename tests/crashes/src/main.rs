//! Crashes of the real thing: processes that are killed, file systems that are shut down or full, limits of the kernel,
//! other openers, and files that are not what they should be. The oracle of the core's tests judges.
//!
//! `crashes FOLDER [--mounts] [--rounds N] [CHECK ...]`: with `--mounts` this process may mount, in a namespace of its own.

#[cfg(target_os = "linux")]
mod common;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod doors;
#[cfg(target_os = "linux")]
mod forks;
#[cfg(target_os = "linux")]
mod kills;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod shutdown;
#[cfg(target_os = "linux")]
mod space;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: the crashes are those of Linux");
    std::process::exit(77);
}
