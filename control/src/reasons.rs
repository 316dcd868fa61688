//! Words that stand in conditions and events, as an enum: one table of reasons, each with what it is about and a yes or no
//! to the one question that is asked of all. Pure.

/// Makes the enum `Reason` of a table: what the enum is, the question and how its answers are called, then each reason.
macro_rules! reasons {
    (
        #[doc = $about:literal]
        #[doc = $asked:literal]
        $question:ident: $yes:ident | $no:ident;
        $($(#[doc = $doc:literal])+ $name:ident: $answer:ident,)+
    ) => {
        #[doc = $about]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        enum Answer {
            $yes,
            $no,
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word, as it is written everywhere.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            #[doc = $asked]
            pub const fn $question(self) -> bool {
                match self {
                    $(Self::$name => matches!(Answer::$answer, Answer::$yes),)+
                }
            }
        }

        impl std::fmt::Display for Reason {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(crate) use reasons;
