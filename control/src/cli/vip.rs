//! `podline vip`: holds a virtual address at one proxy, or lets it go, for whoever decides that without Kubernetes.
//!
//! Each address has an owner of its own, so that nothing else of the proxy is touched. Whoever said it last has more right:
//! the epoch is the time.

use std::net::IpAddr;
use std::time::SystemTime;

use podline_api::{Apply, Network, Owner, VirtualAddress, v1};

use super::failure::{Exit, Failure};
use super::human::{Columns, age, clean};
use super::output::Screen;
use super::target::Target;

/// How to use it.
pub(super) const HELP: &str = "\
Examples:
  podline vip hold 192.0.2.10                    put it on its link and announce it
  podline vip hold 192.0.2.10 --interface eth1
  podline vip release 192.0.2.10                 another host has it from now on
  podline vip list                               which there are, and who holds them

Both are what keepalived's notify_master and notify_backup call. Listeners on the address may be there all the time.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Take an address: put it on its link and announce it, whoever has had it.
    Hold(Hold),
    /// Let an address go at once; the proxy stands by.
    Release(Release),
    /// Show the virtual addresses, and how they do.
    List,
}

#[derive(Debug, clap::Args)]
struct Hold {
    #[arg(value_name = "ADDRESS")]
    address: IpAddr,
    /// The link that it is put on; found by the address if left out.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Take it only if no host on the link has it.
    #[arg(long)]
    ask_first: bool,
}

#[derive(Debug, clap::Args)]
struct Release {
    #[arg(value_name = "ADDRESS")]
    address: IpAddr,
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let client = target.connect().await?;
    let (wanted, told) = match &args.action {
        Action::List => {
            let request = v1::GetRequest {
                summary: true,
                ..Default::default()
            };
            let network = client.get(request).await?.network.unwrap_or_default();
            screen.answer(&network, || list(&network.addresses, SystemTime::now()))?;
            return Ok(Exit::Done);
        }
        Action::Hold(hold) => (held(hold, SystemTime::now()), "is to be held here"),
        Action::Release(release) => (
            VirtualAddress::standby(release.address),
            "is not held here any more",
        ),
    };
    let ip = wanted.address;
    let answer = client.apply(&transaction(wanted)?).await?;
    screen.answer(&answer, || format!("{ip} {told}\n"))?;
    Ok(Exit::Done)
}

fn held(hold: &Hold, now: SystemTime) -> VirtualAddress {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    VirtualAddress {
        address: hold.address,
        interface: hold.interface.clone(),
        held: true,
        epoch: since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        }),
        take_over: !hold.ask_first,
        predecessor: None,
    }
}

fn transaction(address: VirtualAddress) -> Result<Apply, Failure> {
    let owner = Owner::try_from(format!("vip/{}", address.address));
    let owner = owner.map_err(|invalid| Failure::Usage(invalid.to_string()))?;
    let network = Network {
        addresses: vec![address],
        ..Network::default()
    };
    Ok(Apply {
        network: Some(network),
        ..Apply::new(owner)
    })
}

/// The lines of all addresses.
pub(super) fn list(addresses: &[v1::AddressStatus], now: SystemTime) -> String {
    const HEADER: &[&str] = &[
        "ADDRESS",
        "INTERFACE",
        "STATE",
        "SINCE",
        ">EPOCH",
        "WHY NOT",
    ];
    if addresses.is_empty() {
        return "no virtual address\n".to_owned();
    }
    let mut columns = Columns::new("", HEADER);
    for status in addresses {
        columns.row([
            status.address.clone(),
            status.interface.clone(),
            status.state().as_str_name().to_owned(),
            age(status.since.as_ref(), now),
            status.epoch.to_string(),
            status.reason.clone(),
        ]);
    }
    columns.text()
}

/// One that changed, in a line without its end.
pub(super) fn line(status: &v1::AddressStatus) -> String {
    let state = status.state().as_str_name();
    let link = match status.interface.as_str() {
        "" => String::new(),
        link => format!(" on {link}"),
    };
    let reason = match status.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    clean(&format!("address/{} {state}{link}{reason}", status.address))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_holds_it_last_has_more_right() {
        let hold = |ask_first| Hold {
            address: [192, 0, 2, 10].into(),
            interface: Some("eth1".to_owned()),
            ask_first,
        };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let first = held(&hold(false), at(1));
        assert_eq!((first.epoch, first.take_over), (1_000, true));
        assert!(held(&hold(true), at(2)).epoch > first.epoch);
        assert!(!held(&hold(true), at(2)).take_over);
        let apply = transaction(first.clone()).unwrap();
        assert_eq!(apply.owner.as_str(), "vip/192.0.2.10");
        assert_eq!(apply.network.unwrap().addresses, [first]);
        let of_v6 = VirtualAddress::standby("fd00::1".parse().unwrap());
        assert_eq!(transaction(of_v6).unwrap().owner.as_str(), "vip/fd00::1");
    }

    #[test]
    fn addresses_are_listed_with_what_is_wrong() {
        let status = v1::AddressStatus {
            address: "192.0.2.10".to_owned(),
            interface: "eth0".to_owned(),
            state: v1::address_status::State::Conflict.into(),
            reason: "the host at 02:00:00:00:00:01 has it".to_owned(),
            epoch: 7,
            ..Default::default()
        };
        let text = list(std::slice::from_ref(&status), SystemTime::UNIX_EPOCH);
        let expected = "\
ADDRESS     INTERFACE  STATE     EPOCH  WHY NOT
192.0.2.10  eth0       CONFLICT      7  the host at 02:00:00:00:00:01 has it
";
        assert_eq!(text, expected);
        let told = "address/192.0.2.10 CONFLICT on eth0: the host at 02:00:00:00:00:01 has it";
        assert_eq!(line(&status), told);
        assert_eq!(list(&[], SystemTime::UNIX_EPOCH), "no virtual address\n");
    }
}
