use std::time::Duration;

use netlab::{
    Bottleneck, Error, Family, Iperf3, Iperf3Config, Path, PathConfig, RelayConfig, TokenBucket,
};

use crate::{TestResult, privileged};

fn path() -> Result<Path, Error> {
    Path::new(&PathConfig {
        bottleneck: Bottleneck::Local(TokenBucket {
            rate: 50_000_000,
            burst: 20_000,
            limit: 150_000,
        }),
        relay: Some(RelayConfig::symmetric(Duration::from_millis(5))),
        ..PathConfig::default()
    })
}

#[test]
fn a_tcp_competitor_fills_the_bottleneck() -> TestResult {
    privileged()?;
    live_test::require_program("iperf3")?;
    let path = path()?;
    for family in Family::ALL {
        let config = Iperf3Config {
            duration: Duration::from_secs(2),
            family,
            ..Iperf3Config::default()
        };
        let report = Iperf3::start(&path, &config)?.finish()?;
        println!("{family:?}: {report:?}");
        assert!((30e6..51e6).contains(&report.goodput), "{report:?}");
    }
    assert_eq!(path.relay_stats()?.forward.unintended_drops(), 0);
    Ok(())
}

#[test]
fn a_competitor_that_cannot_run_says_why() -> TestResult {
    privileged()?;
    live_test::require_program("iperf3")?;
    let path = path()?;
    let config = Iperf3Config {
        congestion: "no-such-control".to_owned(),
        ..Iperf3Config::default()
    };
    let failed = Iperf3::start(&path, &config).and_then(Iperf3::finish);
    let error = failed.expect_err("the kernel knows no such control");
    assert!(matches!(error, Error::CommandFailed { .. }), "{error}");
    assert!(error.to_string().contains("no-such-control"), "{error}");
    Ok(())
}
