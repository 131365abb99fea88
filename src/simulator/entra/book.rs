//! A book with a last page: what was issued, found by its text, the oldest forgotten when the book is full.

use std::collections::{HashMap, VecDeque};

/// Entries by key, at most `room` of them.
#[derive(Debug)]
pub(super) struct Book<T> {
    entries: HashMap<String, T>,
    order: VecDeque<String>,
    room: usize,
}

impl<T> Book<T> {
    pub(super) fn with_room(room: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), room }
    }

    /// Writes an entry; the oldest ones make room.
    pub(super) fn write(&mut self, key: String, entry: T) {
        while self.order.len() >= self.room {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
        if self.entries.insert(key.clone(), entry).is_none() {
            self.order.push_back(key);
        }
    }

    pub(super) fn entry(&self, key: &str) -> Option<&T> {
        self.entries.get(key)
    }

    pub(super) fn entry_mut(&mut self, key: &str) -> Option<&mut T> {
        self.entries.get_mut(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.entries.keys()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &T> {
        self.entries.values()
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.values_mut()
    }

    /// Takes an entry out.
    pub(super) fn strike(&mut self, key: &str) {
        if self.entries.remove(key).is_some() {
            self.order.retain(|other| other != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_book_forgets_its_oldest_entry() {
        let mut book = Book::with_room(2);
        for key in ["a", "b", "b", "c"] {
            book.write(key.to_owned(), ());
        }
        assert!(book.entry("a").is_none());
        assert!(book.entry("b").is_some() && book.entry("c").is_some());
        book.strike("c");
        assert!(book.entry("c").is_none());
    }
}
