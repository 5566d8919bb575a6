//! Python's pickles, of which nothing is executed.
//!
//! What a pickle would call is kept as a [`Node::Call`]. Each value is made once and referred to by its number: memoised values
//! are not copied, so that an honest file of any length is read in its own size. (nnU-Net's log of the Dice of 117 classes over
//! 1000 epochs refers back more than a million times.) Nothing recurses, so nesting can't exhaust the stack.

use std::collections::HashMap;

/// A value's place in its [`Pickle`].
pub(super) type Id = usize;

/// A value.
#[derive(Debug)]
pub(super) enum Node {
    None,
    Int(i64),
    Text(String),
    /// What no one asks for: truth values, fractions, bytes, sets, numbers of more than 64 bits.
    Other,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function by its module and name.
    Global(String),
    /// What lies outside of the pickle.
    Persistent(Id),
    /// What calling a class or function with a tuple of arguments would give.
    Call {
        function: Id,
        arguments: Id,
    },
}

/// The values of a pickle.
pub(super) struct Pickle {
    nodes: Vec<Node>,
    root: Id,
}

impl Pickle {
    /// Reads a pickle of protocol 2 or later, as PyTorch writes them.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        Machine {
            bytes,
            place: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
        .run()
    }

    /// What was pickled.
    pub fn root(&self) -> Id {
        self.root
    }

    /// A value.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    /// The entry of a dictionary under a text; the last one where there are several, as in Python.
    pub fn entry(&self, dictionary: Id, key: &str) -> Option<Id> {
        let Node::Dict(entries) = self.node(dictionary) else {
            return None;
        };
        let mut entries = entries.iter().rev();
        entries
            .find(|&&(found, _)| self.text(found) == Some(key))
            .map(|&(_, value)| value)
    }

    /// A text.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The members of a tuple or list.
    pub fn members(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(members) | Node::List(members) => Some(members),
            _ => None,
        }
    }

    /// A number that counts something.
    pub fn count(&self, id: Id) -> Option<usize> {
        match *self.node(id) {
            Node::Int(value) => usize::try_from(value).ok(),
            _ => None,
        }
    }

    /// Numbers that count something.
    pub fn counts(&self, id: Id) -> Option<Vec<usize>> {
        self.members(id)?.iter().map(|&id| self.count(id)).collect()
    }
}

/// The stack machine that a pickle is a program for.
struct Machine<'a> {
    bytes: &'a [u8],
    place: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Lengths of the stack at open marks.
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
}

impl Machine<'_> {
    fn run(mut self) -> Result<Pickle, String> {
        loop {
            let opcode = self.byte()?;
            match opcode {
                b'.' => {
                    let root = self.pop()?;
                    return Ok(Pickle {
                        nodes: self.nodes,
                        root,
                    });
                }
                // Protocol and frame: how the bytes are cut, not what they mean.
                0x80 => drop(self.byte()?),
                0x95 => drop(self.take(8)?),
                b'N' => self.push(Node::None),
                0x88 | 0x89 => self.push(Node::Other),
                b'K' => self.integer(1)?,
                b'M' => self.integer(2)?,
                b'J' => {
                    let bytes = self.array::<4>()?;
                    self.push(Node::Int(i32::from_le_bytes(bytes).into()));
                }
                0x8a => {
                    let length = self.length(1)?;
                    self.long(length)?;
                }
                0x8b => {
                    let length = self.length(4)?;
                    self.long(length)?;
                }
                b'G' => {
                    self.take(8)?;
                    self.push(Node::Other);
                }
                0x8c | b'U' => self.string(1)?,
                b'X' | b'T' => self.string(4)?,
                0x8d => self.string(8)?,
                b'C' => self.other(1)?,
                b'B' => self.other(4)?,
                0x8e | 0x96 => self.other(8)?,
                b'c' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    self.push(Node::Global(format!("{module}.{name}")));
                }
                0x93 => self.stack_global()?,
                b'(' => self.marks.push(self.stack.len()),
                b')' => self.push(Node::Tuple(Vec::new())),
                0x85..=0x87 => {
                    let members = self.last(usize::from(opcode) - 0x84)?;
                    self.push(Node::Tuple(members));
                }
                b't' => {
                    let members = self.marked()?;
                    self.push(Node::Tuple(members));
                }
                b']' => self.push(Node::List(Vec::new())),
                b'l' => {
                    let members = self.marked()?;
                    self.push(Node::List(members));
                }
                b'}' => self.push(Node::Dict(Vec::new())),
                b'd' => {
                    let entries = pairs(&self.marked()?)?;
                    self.push(Node::Dict(entries));
                }
                0x8f => self.push(Node::Other),
                0x91 => {
                    self.marked()?;
                    self.push(Node::Other);
                }
                b'a' | b'e' | 0x90 => {
                    let members = match opcode {
                        b'a' => self.last(1)?,
                        _ => self.marked()?,
                    };
                    if let Node::List(list) = self.top()? {
                        list.extend(members);
                    }
                }
                b's' | b'u' => {
                    let flat = match opcode {
                        b's' => self.last(2)?,
                        _ => self.marked()?,
                    };
                    let entries = pairs(&flat)?;
                    // Other classes may have entries too; they stay what they are.
                    if let Node::Dict(dictionary) = self.top()? {
                        dictionary.extend(entries);
                    }
                }
                b'R' | 0x81 => {
                    let arguments = self.pop()?;
                    self.call(arguments)?;
                }
                0x92 => {
                    self.pop()?;
                    let arguments = self.pop()?;
                    self.call(arguments)?;
                }
                // The attributes of an object, of which none is asked for.
                b'b' => {
                    self.pop()?;
                    self.top()?;
                }
                b'Q' => {
                    let name = self.pop()?;
                    self.push(Node::Persistent(name));
                }
                b'0' => drop(self.pop()?),
                b'1' => drop(self.marked()?),
                b'2' => {
                    let top = self.peek()?;
                    self.stack.push(top);
                }
                b'q' | b'r' => {
                    let number = self.length(if opcode == b'q' { 1 } else { 4 })?;
                    let top = self.peek()?;
                    self.memo.insert(number, top);
                }
                0x94 => {
                    let top = self.peek()?;
                    self.memo.insert(self.memo.len(), top);
                }
                b'h' | b'j' => {
                    let number = self.length(if opcode == b'h' { 1 } else { 4 })?;
                    let known = self.memo.get(&number);
                    let id =
                        *known.ok_or_else(|| format!("refers to an unknown value {number}"))?;
                    self.stack.push(id);
                }
                other => {
                    let place = self.place - 1;
                    return Err(format!("has the unknown code {other:#04x} at byte {place}"));
                }
            }
        }
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    /// What lies on top, of those that no mark protects.
    fn peek(&self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&id) if self.stack.len() > floor => Ok(id),
            _ => Err(format!("lacks a value at byte {}", self.place)),
        }
    }

    fn top(&mut self) -> Result<&mut Node, String> {
        let id = self.peek()?;
        Ok(&mut self.nodes[id])
    }

    fn pop(&mut self) -> Result<Id, String> {
        let id = self.peek()?;
        self.stack.pop();
        Ok(id)
    }

    /// The last `count` values, in order.
    fn last(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let mut values = (0..count)
            .map(|_| self.pop())
            .collect::<Result<Vec<_>, _>>()?;
        values.reverse();
        Ok(values)
    }

    /// The values above the last mark, in order.
    fn marked(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop();
        let mark = mark.ok_or_else(|| format!("lacks a mark at byte {}", self.place))?;
        Ok(self.stack.split_off(mark))
    }

    /// What is called lies below its arguments, which are off the stack.
    fn call(&mut self, arguments: Id) -> Result<(), String> {
        let function = self.pop()?;
        let ordered = matches!(&self.nodes[function], Node::Global(name) if name == "collections.OrderedDict");
        let empty = matches!(&self.nodes[arguments], Node::Tuple(members) if members.is_empty());
        self.push(match ordered && empty {
            true => Node::Dict(Vec::new()),
            false => Node::Call {
                function,
                arguments,
            },
        });
        Ok(())
    }

    fn stack_global(&mut self) -> Result<(), String> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (&self.nodes[module], &self.nodes[name]) {
            (Node::Text(module), Node::Text(name)) => {
                let global = format!("{module}.{name}");
                self.push(Node::Global(global));
                Ok(())
            }
            _ => Err(format!("names a class by no text at byte {}", self.place)),
        }
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let rest = &self.bytes[self.place..];
        if count > rest.len() {
            return Err(format!("ends at byte {} of a value", self.bytes.len()));
        }
        self.place += count;
        Ok(&rest[..count])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, String> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// A number of up to 8 bytes, lowest first.
    fn length(&mut self, size: usize) -> Result<usize, String> {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(self.take(size)?);
        let value = u64::from_le_bytes(bytes);
        usize::try_from(value).map_err(|_| format!("has a value of {value} bytes"))
    }

    fn integer(&mut self, size: usize) -> Result<(), String> {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(self.take(size)?);
        self.push(Node::Int(i64::from_le_bytes(bytes)));
        Ok(())
    }

    /// A whole number in two's complement.
    fn long(&mut self, length: usize) -> Result<(), String> {
        let bytes = self.take(length)?;
        let node = match length {
            0 => Node::Int(0),
            1..=8 => {
                let negative = bytes[length - 1] & 0x80 != 0;
                let mut extended = [if negative { 0xff } else { 0 }; 8];
                extended[..length].copy_from_slice(bytes);
                Node::Int(i64::from_le_bytes(extended))
            }
            _ => Node::Other,
        };
        self.push(node);
        Ok(())
    }

    fn string(&mut self, size: usize) -> Result<(), String> {
        let length = self.length(size)?;
        let bytes = self.take(length)?;
        // Python 2 did not say how its strings are encoded; what is no UTF-8 is no name of a weight.
        let node = match std::str::from_utf8(bytes) {
            Ok(text) => Node::Text(text.to_owned()),
            Err(_) => Node::Other,
        };
        self.push(node);
        Ok(())
    }

    fn other(&mut self, size: usize) -> Result<(), String> {
        let length = self.length(size)?;
        self.take(length)?;
        self.push(Node::Other);
        Ok(())
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.place..];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or("ends within the name of a class")?;
        let line = std::str::from_utf8(&rest[..length]);
        let line = line.map_err(|_| "names a class by no text")?.to_owned();
        self.place += length + 1;
        Ok(line)
    }
}

/// Keys and values, which lie in turn.
fn pairs(flat: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, rest) = flat.as_chunks();
    match rest.is_empty() {
        true => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        false => Err("has a key without a value".into()),
    }
}
