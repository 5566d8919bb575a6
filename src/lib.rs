//! Train 3D medical image segmentation with the adaptive region-specific loss.
pub use arl_data as data;
pub use arl_loss as loss;
pub use arl_models as models;
