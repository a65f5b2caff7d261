//! Events that wait to be told to a guest: in their order, and no more of them than of names.
//!
//! What happens to a file while an event of it waits is added to that. What came and went meanwhile was never there.

use super::own::Place;
use fcvm_proto::events::{Changes, Event, What};
use std::collections::{BTreeMap, HashMap};

/// Events that wait at the same time.
const MOST: usize = 1 << 14;

/// The events of one volume.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<u64, Event>,
    /// The last event of each name.
    last: HashMap<Place, u64>,
    next: u64,
    lost: bool,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether events were lost since this was asked last.
    pub(crate) fn has_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    /// Adds an event to those that wait.
    pub(crate) fn push(&mut self, event: Event) {
        match &event.what {
            What::Changed(changes) => {
                let changes = *changes;
                if let Some(before) = self.last_of(event.directory, &event.name)
                    && let What::Changed(known) | What::Created(known) = &mut before.what
                {
                    *known = known.and(changes);
                    return;
                }
                self.append(event);
            }
            What::Created(_) => {
                if self.last_of(event.directory, &event.name).is_none_or(|it| !matches!(it.what, What::Created(_))) {
                    self.append(event);
                }
            }
            What::Deleted { .. } => self.delete(event),
            What::Moved { .. } => self.rename(event),
        }
    }

    /// Takes as many as have room in so many bytes, encoded, without those of which nothing is to be told any more.
    pub(crate) fn take(&mut self, room: usize, is_over: impl Fn(&Event) -> bool) -> Vec<u8> {
        let mut records = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            if records.len() + first.get().length() > room {
                break;
            }
            let number = *first.key();
            let event = first.remove();
            self.unname(&event, number);
            if !is_over(&event) {
                event.encode(&mut records);
            }
        }
        records
    }

    fn delete(&mut self, event: Event) {
        let What::Deleted { node } = event.what else { return };
        match self.pop(event.directory, &event.name) {
            // Nobody in the guest has seen it.
            Some(Event { what: What::Created(_), .. }) if node == 0 => {}
            Some(Event { what: What::Created(_) | What::Changed(_), .. }) | None => self.append(event),
            Some(Event { directory, name, kind, what: What::Moved { node: moved, replaced, .. } }) => {
                if replaced.0 != 0 {
                    self.append(Event { kind: replaced.1, what: What::Deleted { node: replaced.0 }, ..event });
                }
                let node = if node == 0 { moved } else { node };
                self.append(Event { directory, name, kind, what: What::Deleted { node } });
            }
            Some(deleted) => self.append(deleted),
        }
    }

    fn rename(&mut self, mut event: Event) {
        let What::Moved { directory, name, .. } = &event.what else { return };
        let to: Place = (*directory, name[..].into());
        let mut changed = None;
        match self.pop(event.directory, &event.name) {
            // By that name it is not there any more; what is told of it is where it came to.
            Some(Event { what: What::Created(_), .. }) | None => {}
            Some(Event { what: What::Changed(changes), kind, .. }) => {
                let name = to.1.to_vec();
                changed = Some(Event { directory: to.0, name, kind, what: What::Changed(changes) });
            }
            Some(Event { directory, name, what: What::Moved { replaced, .. }, .. }) => {
                let between = std::mem::replace(&mut event.name, name);
                let between = (std::mem::replace(&mut event.directory, directory), between);
                if replaced.0 != 0 {
                    let what = What::Deleted { node: replaced.0 };
                    self.append(Event { directory: between.0, name: between.1, kind: replaced.1, what });
                }
            }
            Some(deleted) => self.append(deleted),
        }
        if (event.directory, &event.name[..]) == (to.0, &to.1[..]) {
            // It has come back; what had its name meanwhile, or has it now, is another file.
            let changes = Changes::CONTENT.and(Changes::ATTRIBUTES);
            self.push(Event { what: What::Changed(changes), ..event });
        } else {
            self.append(event);
        }
        changed.into_iter().for_each(|changed| self.append(changed));
    }

    fn append(&mut self, event: Event) {
        if self.waiting.len() >= MOST {
            self.lost = true;
            return;
        }
        let number = self.next;
        self.next += 1;
        for place in places(&event) {
            self.last.insert(place, number);
        }
        self.waiting.insert(number, event);
    }

    fn last_of(&mut self, directory: u64, name: &[u8]) -> Option<&mut Event> {
        let number = self.last.get(&(directory, name.into()))?;
        let event = self.waiting.get_mut(number)?;
        // What it was called before it moved is another file's name.
        let is_there = event.directory == directory && event.name == name && !matches!(event.what, What::Moved { .. });
        is_there.then_some(event)
    }

    /// Takes back the last event of a name, if it is about the file that has the name.
    fn pop(&mut self, directory: u64, name: &[u8]) -> Option<Event> {
        let number = *self.last.get(&(directory, name.into()))?;
        let event = self.waiting.get(&number)?;
        let has_the_name = match &event.what {
            What::Moved { directory: to, name: other, .. } => *to == directory && other == name,
            _ => true,
        };
        if !has_the_name {
            return None;
        }
        let event = self.waiting.remove(&number)?;
        self.unname(&event, number);
        Some(event)
    }

    fn unname(&mut self, event: &Event, number: u64) {
        for place in places(event) {
            if self.last.get(&place) == Some(&number) {
                self.last.remove(&place);
            }
        }
    }
}

/// The names that an event is about.
fn places(event: &Event) -> Vec<Place> {
    let mut places = vec![(event.directory, event.name[..].into())];
    if let What::Moved { directory, name, .. } = &event.what {
        places.push((*directory, name[..].into()));
    }
    places
}

/// A change of one kind.
pub(crate) fn changed(directory: u64, name: &[u8], kind: u16, changes: Changes) -> Event {
    Event { directory, name: name.into(), kind, what: What::Changed(changes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fcvm_proto::events::{answer, answered};

    const FILE: u16 = 0o100_000;

    fn event(name: &str, what: What) -> Event {
        Event { directory: 1, name: name.into(), kind: FILE, what }
    }

    fn write(name: &str) -> Event {
        event(name, What::Changed(Changes::CONTENT))
    }

    fn create(name: &str) -> Event {
        event(name, What::Created(Changes::default()))
    }

    fn delete(name: &str, node: u64) -> Event {
        event(name, What::Deleted { node })
    }

    fn rename(from: &str, to: &str, replaced: u64) -> Event {
        event(from, What::Moved { node: 0, directory: 1, name: to.into(), replaced: (replaced, FILE) })
    }

    fn told(events: &[Event]) -> Vec<Event> {
        let mut queue = Queue::default();
        events.iter().for_each(|event| queue.push(event.clone()));
        let told = answered(&answer(&queue.take(usize::MAX, |_| false))).unwrap();
        assert!(queue.is_empty() && queue.last.is_empty() && !queue.has_lost());
        told
    }

    #[test]
    fn what_happens_again_is_told_once() {
        let closed = event("a", What::Changed(Changes::CLOSED));
        let both = event("a", What::Changed(Changes::CONTENT.and(Changes::CLOSED)));
        assert_eq!(told(&[write("a"), write("b"), write("a"), closed, write("b")]), [both, write("b")]);
        let made = event("a", What::Created(Changes::CONTENT));
        assert_eq!(told(&[create("a"), write("a"), write("a")]), [made]);
    }

    #[test]
    fn what_came_and_went_was_never_there_but_what_the_guest_knows_is_gone() {
        assert_eq!(told(&[create("a"), write("a"), delete("a", 0)]), []);
        assert_eq!(told(&[create("a"), delete("a", 3)]), [delete("a", 3)]);
        assert_eq!(told(&[write("a"), delete("a", 3)]), [delete("a", 3)]);
        assert_eq!(told(&[delete("a", 3), create("a"), delete("a", 0)]), [delete("a", 3)]);
        assert_eq!(told(&[delete("a", 3), create("a")]), [delete("a", 3), create("a")]);
    }

    #[test]
    fn a_file_that_is_written_beside_and_put_in_place_is_moved() {
        let events = [create("tmp"), write("tmp"), rename("tmp", "a", 7), write("a")];
        assert_eq!(told(&events), [rename("tmp", "a", 7), write("a")]);
        assert_eq!(told(&[write("a"), rename("a", "b", 0)]), [rename("a", "b", 0), write("b")]);
    }

    #[test]
    fn of_several_moves_the_first_name_and_the_last_are_told() {
        assert_eq!(told(&[rename("a", "b", 0), rename("b", "c", 5)]), [rename("a", "c", 5)]);
        assert_eq!(told(&[rename("a", "b", 4), rename("b", "c", 0)]), [delete("b", 4), rename("a", "c", 0)]);
        assert_eq!(told(&[rename("a", "b", 5), delete("b", 0)]), [delete("b", 5), delete("a", 0)]);
        // There and back, as when two files change places.
        let both = Changes::CONTENT.and(Changes::ATTRIBUTES);
        let back = event("a", What::Changed(both));
        assert_eq!(told(&[rename("a", "b", 4), rename("b", "a", 0)]), [delete("b", 4), back]);
        // The name is another file's meanwhile.
        let events = [rename("a", "b", 0), create("a"), write("a"), delete("a", 0)];
        assert_eq!(told(&events), [rename("a", "b", 0)]);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for_and_the_rest_is_told_to_be_lost() {
        let mut queue = Queue::default();
        for number in 0..MOST + 10 {
            queue.push(create(&number.to_string()));
            queue.push(write("0"));
        }
        assert_eq!(queue.waiting.len(), MOST);
        assert!(queue.has_lost() && !queue.has_lost());
        let mut count = 0;
        while !queue.is_empty() {
            let records = queue.take(4096, |_| false);
            assert!(records.len() <= 4096);
            count += answered(&answer(&records)).unwrap().len();
        }
        assert_eq!(count, MOST);
    }
}
