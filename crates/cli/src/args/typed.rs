//! The command line by which a VM was made, taken apart, so that another can be made the same way.

/// `run` or `create`, its flags as they were typed, and what follows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    /// Each with its value.
    pub(crate) flags: Vec<Vec<String>>,
    /// The image, and the command in it.
    pub(crate) image: Vec<String>,
}

/// Flags that say how a VM is owned, which whoever starts it decides.
const OWNING: [&str; 4] = ["--detach", "--rm", "--cidfile", "--restart"];

impl Typed {
    /// Takes a command line apart; none if it is none that makes a VM.
    pub(crate) fn parse(line: &[String]) -> Option<Self> {
        let command = super::command();
        let verb = line.iter().position(|word| word == "run" || word == "create")?;
        let known = command.find_subcommand(&line[verb])?;
        let mut words = line[verb + 1..].iter();
        let mut flags = Vec::new();
        while let Some(word) = words.as_slice().first() {
            if !word.starts_with('-') || word == "-" {
                break;
            }
            words.next();
            if word == "--" {
                break;
            }
            for (mut flag, wants_value) in split(word, known)? {
                if wants_value {
                    flag.push(words.next()?.clone());
                }
                flags.push(flag);
            }
        }
        Some(Self { flags, image: words.cloned().collect() })
    }

    /// The flags without those that whoever starts the VM decides.
    pub(crate) fn unowned(&self) -> Vec<Vec<String>> {
        let owning = |flag: &&Vec<String>| {
            let name = flag[0].split('=').next().unwrap_or_default();
            !OWNING.contains(&name) && name != "-d"
        };
        self.flags.iter().filter(owning).cloned().collect()
    }
}

/// The flags of one word (a cluster has several), and whether each wants the next word as its value.
fn split(word: &str, known: &clap::Command) -> Option<Vec<(Vec<String>, bool)>> {
    let takes_value = |arg: &clap::Arg| {
        let least = arg.get_num_args().map_or(1, |number| number.min_values());
        arg.get_action().takes_values() && least > 0
    };
    if let Some(long) = word.strip_prefix("--") {
        let name = long.split('=').next()?;
        let is_it = |arg: &&clap::Arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|names| names.contains(&name))
        };
        let arg = known.get_arguments().find(is_it)?;
        return Some(vec![(vec![word.to_owned()], takes_value(arg) && !long.contains('='))]);
    }
    let mut flags = Vec::new();
    for (at, letter) in word.char_indices().skip(1) {
        let arg = known.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
        let rest = &word[at + letter.len_utf8()..];
        if takes_value(arg) {
            let value = rest.strip_prefix('=').unwrap_or(rest);
            let flag = [format!("-{letter}"), value.to_owned()].into_iter().filter(|word| !word.is_empty()).collect();
            flags.push((flag, rest.is_empty()));
            break;
        }
        flags.push((vec![format!("-{letter}")], false));
    }
    Some(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Option<Typed> {
        Typed::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_told_from_what_runs() {
        let line = "fcvm --data-dir /d podman run -dit -p8080:80 --name box --rm --env=A=b --sig-proxy -v /a:/b img sh -d --rm";
        let typed = typed(line).unwrap();
        assert_eq!(typed.image, ["img", "sh", "-d", "--rm"]);
        let flags: Vec<String> = typed.unowned().iter().map(|flag| flag.join(" ")).collect();
        assert_eq!(flags, ["-i", "-t", "-p 8080:80", "--name box", "--env=A=b", "--sig-proxy", "-v /a:/b"]);
    }

    #[test]
    fn a_line_that_makes_no_vm_is_none() {
        assert_eq!(typed("fcvm start box"), None);
        assert_eq!(typed("fcvm run --no-such-flag img"), None);
        assert_eq!(typed("fcvm run --name"), None);
    }
}
