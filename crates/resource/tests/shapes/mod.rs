//! Two little kinds for the tests: shapes, and papers that shapes are drawn on.

// Each test file uses what it needs of these.
#![allow(dead_code, unreachable_pub)]

use resource::{
    ByteSize, Failure, JsonPath, NoReserved, ResolveContext, ResolveError, Resource,
    ResourceHandle, ResourceKind, ResourceResolver, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub(crate) struct Shape;

impl ResourceKind for Shape {
    const NAME: &'static str = "shape";
    type Reserved = ShapeReserved;
    type Input = u32;
    type Output = String;
}

/// Keys of any shape.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ShapeReserved {
    /// Whether it is filled.
    pub(crate) filled: bool,
}

/// A round shape.
///
/// There is more to say about it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Circle {
    /// The radius.
    pub(crate) radius: u8,
    /// What it weighs.
    #[serde(default)]
    pub(crate) weight: Option<ByteSize>,
}

#[async_trait]
impl ResourceHandle<Shape> for Circle {
    const ID: &'static str = "circle";

    fn check(&self, path: &JsonPath) -> Result<(), ResolveError> {
        match self.weight {
            Some(ByteSize(0)) => {
                let message = "a circle weighs something, or nobody knows what";
                Err(ResolveError::bad_value(path.key("weight"), message))
            }
            _ => Ok(()),
        }
    }

    async fn resolve(self, cx: &ResolveContext<'_>, scale: u32) -> Result<String, Failure> {
        if self.radius == 0 {
            return Err(cx.bad_value("radius", "a circle needs a radius").into());
        }
        Ok(format!("circle {}", u32::from(self.radius) * scale))
    }
}

/// Shapes together.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Group {
    /// The shapes.
    pub(crate) shapes: Vec<Resource<Shape>>,
    #[serde(default)]
    pub(crate) mode: Mode,
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    #[default]
    Side,
    Over {
        gap: u8,
    },
}

#[async_trait]
impl ResourceHandle<Shape> for Group {
    const ID: &'static str = "group";

    async fn resolve(self, cx: &ResolveContext<'_>, scale: u32) -> Result<String, Failure> {
        let mut text = match self.mode {
            Mode::Side => "side:".to_owned(),
            Mode::Over { gap } => format!("over {gap}:"),
        };
        for shape in self.shapes {
            let filled = if shape.reserved()?.filled { "+" } else { "-" };
            text += &format!(" {filled}{}", cx.resolve(shape, scale).await?);
        }
        Ok(text)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no shape at {path}")]
pub(crate) struct NotThere {
    pub(crate) path: PathBuf,
    pub(crate) source: std::io::Error,
}

/// A shape in a file.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Stored {
    pub(crate) path: PathBuf,
}

#[async_trait]
impl ResourceHandle<Shape> for Stored {
    const ID: &'static str = "stored";

    async fn resolve(self, cx: &ResolveContext<'_>, _: u32) -> Result<String, Failure> {
        let path = cx.join(&self.path);
        std::fs::read_to_string(&path)
            .map_err(|source| cx.failed_at("path", NotThere { path, source }).into())
    }
}

pub(crate) struct Paper;

impl ResourceKind for Paper {
    const NAME: &'static str = "paper";
    type Reserved = NoReserved;
    type Input = ();
    type Output = String;
}

/// A sheet with one shape.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Sheet {
    pub(crate) drawn: Resource<Shape>,
    #[serde(default)]
    pub(crate) pinned: Option<Resource<Paper>>,
}

#[async_trait]
impl ResourceHandle<Paper> for Sheet {
    const ID: &'static str = "sheet";

    async fn resolve(self, cx: &ResolveContext<'_>, (): ()) -> Result<String, Failure> {
        let under = async {
            match self.pinned {
                Some(paper) => cx.resolve(paper, ()).await.map(Some),
                None => Ok(None),
            }
        };
        let (drawn, under) = futures_lite::future::zip(cx.resolve(self.drawn, 1), under).await;
        let under = under?.map(|under| format!(" over {under}"));
        Ok(format!("sheet({}){}", drawn?, under.unwrap_or_default()))
    }
}

resource::register! { Circle: Shape, Group: Shape, Stored: Shape, Sheet: Paper }

pub(crate) fn resolver() -> ResourceResolver {
    let mut resolver = ResourceResolver::linked();
    resolver.add_hint::<Paper, Shape>("write {\"type\": \"sheet\", \"drawn\": ...}");
    resolver.add_stand_in::<Shape, Paper>(|_| (), |paper| format!("shape of {paper}"));
    resolver
}
