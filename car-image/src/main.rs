//! `pitlane-car`: drives a release.

fn main() -> std::process::ExitCode {
    pitlane_car::main()
}
