//! Drives the library from a shell: `cargo run -p casemate-sdk --example sdk -- install PREFIX CACHE`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> sdk::Result<()> {
    match words {
        ["install", prefix, cache, rest @ ..] => {
            let checker = std::env::current_exe().ok().and_then(|exe| {
                let check = exe.parent()?.parent()?.join("casemate-check");
                check.is_file().then_some(check)
            });
            let kernel = match rest {
                [object, script] => {
                    Some(sdk::KernelFiles { object: PathBuf::from(object), script: PathBuf::from(script) })
                }
                _ => None,
            };
            let sdk = sdk::install(&sdk::Options {
                prefix: PathBuf::from(prefix),
                cache: PathBuf::from(cache),
                musl_source: std::env::var_os("MUSL_SOURCE").map(PathBuf::from),
                kernel,
                checker,
                jobs: 2,
                report: &|text| println!("{text}"),
            })?;
            println!("installed in {}", sdk.prefix().display());
            Ok(())
        }
        ["check", package, prefix, cache, work] => {
            use sdk::packages::{self, Workshop};
            let sdk = sdk::Sdk::open(*prefix)?;
            let mut shop = Workshop {
                sdk: &sdk,
                cache: cache.as_ref(),
                work: work.as_ref(),
                kernel: sdk::kernel::STANDIN,
                jobs: 2,
                report: &|text| println!("{text}"),
            };
            if matches!(*package, "gmp" | "mbedtls" | "lz4") {
                shop.kernel = sdk::kernel::STANDIN_FILES;
            }
            let outcome = match *package {
                "gmp" => packages::gmp::check(&shop),
                "mbedtls" => packages::mbedtls::check(&shop),
                "lz4" => packages::lz4::check(&shop),
                "tpm" => packages::tpm::check(&shop),
                "posix" => packages::posix::check(&shop),
                _ => packages::picolibc::check(&shop),
            }?;
            println!("{outcome}");
            outcome.into_result().map(|_| ())
        }
        ["size", image] => {
            print!("{}", sdk::size::report(image.as_ref(), None)?);
            Ok(())
        }
        _ => {
            eprintln!("usage: sdk install PREFIX CACHE [KERNEL LINK.LD] | size IMAGE");
            eprintln!("       sdk check gmp|mbedtls|lz4|tpm|posix|picolibc PREFIX CACHE WORK");
            Ok(())
        }
    }
}
