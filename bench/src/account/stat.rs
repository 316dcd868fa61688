//! What the kernel writes in files of `/proc`: processes, CPUs, memory, the machine. Texts in, values out. Pure.

/// How long a tick of [`Process`] and [`Cpus`] is in nanoseconds: `USER_HZ` is 100 on every architecture but Alpha.
pub(super) const TICK: u64 = 10_000_000;

/// A process, out of its `stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its parent.
    pub(super) parent: u32,
    /// Ticks in user and kernel mode, of all threads it ever had.
    pub(super) own: u64,
    /// The same of children that have ended and were waited for, and theirs.
    pub(super) children: u64,
}

/// The CPUs of the machine, out of `/proc/stat`, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cpus {
    /// User, nice, system, irq and softirq: neither idle nor iowait nor steal.
    pub(super) busy: u64,
    /// Idle and iowait. Kernels without ticks for idle CPUs count it to the microsecond.
    pub(super) idle: u64,
    /// Wanted, while somebody else had the processor.
    pub(super) stolen: u64,
    /// How many there are.
    pub(super) count: u32,
}

/// Reads a process's `stat`. Its name stands in brackets and may hold spaces and brackets.
pub(super) fn process(text: &str) -> Option<Process> {
    let (_, after_name) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // Waited-for children's times are signed in the format.
    Some(Process {
        parent: u32::try_from(number(1)?).ok()?,
        own: number(11)? + number(12)?,
        children: number(13).unwrap_or(0) + number(14).unwrap_or(0),
    })
}

/// Reads nanoseconds on a CPU out of a thread's `schedstat`.
pub(super) fn on_cpu(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Reads the first line of `/proc/stat`, and counts those of single CPUs.
pub(super) fn cpus(text: &str) -> Option<Cpus> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Option<Vec<u64>> = line.split_whitespace().map(|f| f.parse().ok()).collect();
    let fields = fields.filter(|fields| fields.len() >= 7)?;
    let single = text.lines().skip(1);
    let single = single.take_while(|line| line.starts_with("cpu")).count();
    Some(Cpus {
        busy: fields[..3].iter().chain(&fields[5..7]).sum(),
        idle: fields[3] + fields[4],
        stolen: fields.get(7).copied().unwrap_or(0),
        count: u32::try_from(single).unwrap_or(u32::MAX).max(1),
    })
}

/// Reads KiB of memory out of `smaps_rollup`: what is shared counts for each by its part.
pub(super) fn pss_kib(text: &str) -> Option<u64> {
    kib(text, "Pss:")
}

/// Reads KiB of the machine's memory out of `/proc/meminfo`.
pub(super) fn memory_kib(text: &str) -> Option<u64> {
    kib(text, "MemTotal:")
}

/// Reads the processor's model out of `/proc/cpuinfo`; architectures differ in how they tell it.
pub(super) fn processor(text: &str) -> Option<&str> {
    let keys = ["model name", "cpu model", "Processor", "cpu", "uarch"];
    let value = |wanted: &str| {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        let mut values = fields.filter(|(key, _)| key.trim() == wanted);
        values.next().map(|(_, value)| value.trim())
    };
    keys.into_iter().find_map(value)
}

fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `roots` and all who descend from them, each once. `processes` are pairs of a process and its parent.
pub(super) fn family(processes: &[(u32, u32)], roots: &[u32]) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    let mut next: Vec<u32> = roots.to_vec();
    while let Some(pid) = next.pop() {
        if !found.contains(&pid) {
            found.push(pid);
            let children = processes.iter().filter(|(_, parent)| *parent == pid);
            next.extend(children.map(|(child, _)| *child));
        }
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NGINX: &str = "4711 (nginx) S 1 4711 4711 0 -1 4194560 1500 2300 0 0 12 34 5 6 20 0 1 0 987654 12345678 900 18446744073709551615 1 1 0 0 0 0 0 1073746048 402745863 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn a_process_is_read_whatever_it_is_called() {
        let expected = Process {
            parent: 1,
            own: 46,
            children: 11,
        };
        for name in [
            "(nginx)",
            "(a b)",
            "(x) S 9 (y)",
            "())",
            "(\n)",
            "(tmux: server (1))",
        ] {
            let text = NGINX.replace("(nginx)", name);
            assert_eq!(process(&text), Some(expected), "{name}");
        }
    }

    #[test]
    fn what_is_no_process_is_refused() {
        for text in [
            "",
            "1",
            "1 (x",
            "1 (x)",
            "1 (x) S",
            "1 (x) S a 0 0 0 0 0 0 0 0 0 1 2 3 4",
            "1 (x) S 1 2 3",
        ] {
            assert_eq!(process(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_machine_is_busy_without_idle_iowait_and_steal() {
        let text = "cpu  100 20 30 4000 500 6 7 80 9 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n\
                    cpu1 1 2 3 4 5 6 7 8 9 0\nintr 5 6\n";
        let expected = Cpus {
            busy: 100 + 20 + 30 + 6 + 7,
            idle: 4000 + 500,
            stolen: 80,
            count: 2,
        };
        assert_eq!(cpus(text), Some(expected));
        // Before Linux 2.6.11 nothing was told of steal.
        assert_eq!(
            cpus("cpu  1 2 3 4 5 6 7\n").map(|cpus| cpus.stolen),
            Some(0)
        );
        for text in [
            "",
            "cpu",
            "cpu  1 2 3",
            "cpu  1 2 3 4 5 x 7",
            "cpu0 1 2 3 4 5 6 7 8",
        ] {
            assert_eq!(cpus(text), None, "{text:?}");
        }
    }

    #[test]
    fn memory_is_read_by_its_key() {
        let rollup = "560a00000000-7ffd00000000 ---p 00000000 00:00 0    [rollup]\n\
                      Rss:               12345 kB\nPss:                6789 kB\nPss_Dirty:          1234 kB\n";
        assert_eq!(pss_kib(rollup), Some(6789));
        assert_eq!(pss_kib("Pss_Dirty: 12 kB\n"), None);
        assert_eq!(
            memory_kib("MemTotal:        8040000 kB\nMemFree: 1 kB\n"),
            Some(8_040_000)
        );
        assert_eq!(on_cpu("123456789 55 66\n"), Some(123_456_789));
        assert_eq!(on_cpu(""), None);
    }

    #[test]
    fn processors_are_told_in_many_ways() {
        let intel = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\nmodel name\t: Intel(R) Xeon(R) @ 2.90GHz\n";
        assert_eq!(processor(intel), Some("Intel(R) Xeon(R) @ 2.90GHz"));
        assert_eq!(
            processor("processor\t: 0\ncpu\t\t: POWER9\n"),
            Some("POWER9")
        );
        assert_eq!(processor("processor\t: 0\nBogoMIPS\t: 50.00\n"), None);
    }

    #[test]
    fn a_family_is_everybody_below_and_nobody_else() {
        let processes = [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (21, 20)];
        assert_eq!(family(&processes, &[10]), [10, 11, 12]);
        assert_eq!(family(&processes, &[11, 10, 20]), [10, 11, 12, 20, 21]);
        assert_eq!(family(&processes, &[99]), [99]); // it has just ended
        assert_eq!(family(&[(5, 6), (6, 5)], &[5]), [5, 6]); // cannot be, and must not hang
        assert_eq!(family(&processes, &[]), [0; 0]);
    }
}
