//! `cargo xtask llvm`: LLVM for the `cuda` feature, from PyPI instead of GitHub.
//!
//! Burn compiles CUDA kernels with LLVM, and the build script of its crate `tracel-llvm-bundler` downloads a static
//! LLVM from GitHub, unless it finds one already installed. This command installs one where that script looks, taken
//! from two wheels on PyPI: the first has LLVM with the X86 target, the second adds NVPTX (and others) to it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The version of `tracel-llvm-bundler` in Cargo.lock; it names the directory in which its build script looks.
const BUNDLER_VERSION: &str = "23.1.0-4";

/// What the wheels' LLVM must report; the bundler's own archive is 23.1.0, and the C API is the same within 23.1.
const LLVM_SERIES: &str = "23.1.";

/// A file of this name tells the bundler that the directory is complete.
const INSTALLED_MARKER: &str = ".tracel-llvm-installed";

/// The wheels in pip's requirements format. With the hashes pip refuses any other file.
const WHEELS: &str = "\
mlc-llvm-static==23.1.1.post0 --hash=sha256:dcfec888abfaa418be77d41af585805f31463584cf9c90582992c00f392c1ac5
mlc-llvm-static-extra-targets==23.1.1.post0 --hash=sha256:c36e834d9a4e9cf9759f27fece65711ece7a2fc2b5a96dbb15d66f5e9e787929
";

/// Install LLVM for `--features cuda` from PyPI, where GitHub is out of reach
///
/// The `cuda` feature links LLVM 23.1, which Burn's build script downloads from GitHub. Where that fails, run this
/// once before building: it takes the same LLVM series from two PyPI packages (92 MB) and unpacks it where the build
/// script looks (about 400 MB). Nothing else in the workspace needs it.
///
/// Needs: Linux on x86_64, python3 with pip, a C++ compiler, and the development files of zlib and zstd
/// (Debian, Ubuntu: `apt-get install python3-pip g++ zlib1g-dev libzstd-dev`).
#[derive(clap::Args)]
pub struct Args {
    /// Install again, replacing what is there
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the PyPI packages of LLVM used here are for Linux on x86_64; on this system let the build download LLVM \
         from GitHub (`cargo build --features cuda` does so by itself)"
    );
    let destination = install_dir(env::var_os("XDG_DATA_HOME"), env::var_os("HOME"))?;
    if destination.join(INSTALLED_MARKER).exists() && !args.force {
        println!(
            "LLVM is already installed at {} (--force installs it again)",
            destination.display()
        );
        return Ok(());
    }
    check_cxx()?;
    for (library, package) in [("z", "zlib1g-dev"), ("zstd", "libzstd-dev")] {
        check_library(library, package)?;
    }
    check_pip()?;

    let parent = destination
        .parent()
        .context("the installation directory has no parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    // Beside the destination, so that the last step is a rename and an interrupted run leaves nothing half-installed.
    let staging = tempfile::Builder::new()
        .prefix(".xtask-llvm-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot write into {}", parent.display()))?;
    let tree = unpack_wheels(staging.path())?;
    make_executable(&tree.join("bin"))?;
    let version = llvm_version(&tree)?;
    ensure!(
        version.starts_with(LLVM_SERIES),
        "the packages hold LLVM {version}, but {LLVM_SERIES}x is needed; xtask/src/llvm.rs names the packages"
    );
    let marker = tree.join(INSTALLED_MARKER);
    fs::write(&marker, "").with_context(|| format!("cannot write {}", marker.display()))?;
    if destination.exists() {
        // Moved into the staging directory, which is deleted at the end.
        rename(&destination, &staging.path().join("replaced"))?;
    }
    rename(&tree, &destination)?;

    println!("Installed LLVM {version} at {}", destination.display());
    println!("Next: cargo build --features cuda");
    Ok(())
}

/// Where the bundler's build script looks: `$XDG_DATA_HOME/tracel/tracel-llvm-VERSION`, with the XDG rule that a
/// relative or missing variable means `~/.local/share`.
fn install_dir(xdg_data_home: Option<OsString>, home: Option<OsString>) -> Result<PathBuf> {
    let data = xdg_data_home
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let data = match (data, home) {
        (Some(data), _) => data,
        (None, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".local/share"),
        _ => bail!("neither HOME nor XDG_DATA_HOME is set; set HOME to your home directory"),
    };
    Ok(data
        .join("tracel")
        .join(format!("tracel-llvm-{BUNDLER_VERSION}")))
}

/// The C++ compiler that Cargo's build scripts use.
fn cxx() -> OsString {
    env::var_os("CXX")
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| "c++".into())
}

fn check_cxx() -> Result<()> {
    ensure!(
        links(&[])?,
        "the C++ compiler `{}` cannot link a program; install one (Debian, Ubuntu: apt-get install g++)",
        cxx().display()
    );
    Ok(())
}

/// LLVM's static libraries need these at the last link, which comes half an hour into the build: better to know now.
fn check_library(library: &str, package: &str) -> Result<()> {
    let flag = format!("-l{library}");
    ensure!(
        links(&[&flag])?,
        "cannot link with `{flag}`; install its development files (Debian, Ubuntu: apt-get install {package})"
    );
    Ok(())
}

/// Whether an empty C++ program links with these flags.
fn links(flags: &[&str]) -> Result<bool> {
    let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
    let source = directory.path().join("probe.cpp");
    fs::write(&source, "int main() { return 0; }\n")
        .with_context(|| format!("cannot write {}", source.display()))?;
    let status = Command::new(cxx())
        .arg(&source)
        .arg("-o")
        .arg(directory.path().join("probe"))
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // A compiler that is not there is one that does not link.
    Ok(status.is_ok_and(|status| status.success()))
}

fn check_pip() -> Result<()> {
    let found = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    ensure!(
        found,
        "python3 with pip is needed (Debian, Ubuntu: apt-get install python3-pip)"
    );
    Ok(())
}

/// Downloads both wheels, unpacks them over each other, and returns the root of the LLVM tree.
fn unpack_wheels(staging: &Path) -> Result<PathBuf> {
    let requirements = staging.join("requirements.txt");
    fs::write(&requirements, WHEELS)
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    let wheels = staging.join("wheels");
    println!("Downloading LLVM (92 MB) from PyPI ...");
    succeed(
        Command::new("python3")
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args([
                "--no-deps",
                "--only-binary",
                ":all:",
                "--require-hashes",
                "--dest",
            ])
            .arg(&wheels)
            .arg("--requirement")
            .arg(&requirements),
        "pip could not download the packages; its message above says why",
    )?;

    println!("Unpacking ...");
    let unpacked = staging.join("unpacked");
    for entry in
        fs::read_dir(&wheels).with_context(|| format!("cannot read {}", wheels.display()))?
    {
        succeed(
            Command::new("python3")
                .args(["-m", "zipfile", "-e"])
                .arg(entry?.path())
                .arg(&unpacked),
            "a downloaded package could not be unpacked; is the disk full?",
        )?;
    }
    Ok(unpacked.join("mlc_llvm_static").join("static"))
}

/// Python's zipfile does not keep the executable bit. `chmod` rather than the standard library's Unix-only call, so
/// that the workspace also compiles on Windows.
fn make_executable(bin: &Path) -> Result<()> {
    succeed(
        Command::new("chmod").args(["-R", "a+rx"]).arg(bin),
        "cannot make LLVM's tools executable; the message above says why",
    )
}

/// What the `llvm-config` of a tree says, asked in the way the build scripts ask it.
fn llvm_version(tree: &Path) -> Result<String> {
    let config = tree.join("bin").join("llvm-config");
    let output = Command::new(&config)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {}", config.display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        config.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command whose own messages go to the terminal.
fn succeed(command: &mut Command, failure: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(status.success(), "{failure}");
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
        .with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_where_the_build_script_looks() {
        let directory = format!("tracel/tracel-llvm-{BUNDLER_VERSION}");
        let at = |xdg: Option<&str>, home: Option<&str>| {
            install_dir(xdg.map(Into::into), home.map(Into::into)).ok()
        };
        assert_eq!(
            at(Some("/data"), Some("/home/a")),
            Some(Path::new("/data").join(&directory))
        );
        let home = Some(Path::new("/home/a/.local/share").join(&directory));
        assert_eq!(at(None, Some("/home/a")), home);
        assert_eq!(at(Some(""), Some("/home/a")), home);
        assert_eq!(at(Some("relative"), Some("/home/a")), home);
        assert_eq!(at(None, None), None);
    }

    /// An update of Burn that brings another bundler must fail here, not half an hour into somebody's build.
    #[test]
    fn the_lock_file_has_the_bundler_that_is_served() {
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains(&format!(
            "name = \"tracel-llvm-bundler\"\nversion = \"{BUNDLER_VERSION}\"\n"
        )));
    }

    #[test]
    fn a_missing_library_is_noticed() {
        assert!(links(&[]).unwrap());
        assert!(!links(&["-lno-such-library-anywhere"]).unwrap());
    }
}
