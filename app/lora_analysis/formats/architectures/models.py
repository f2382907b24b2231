"""Every base model with a table: its denoiser's names and its text encoders, one function each.

Numbers of text encoders are kohya's (sd-scripts 0.9, musubi-tuner 0.2); names behind ``text_encoders.`` are ComfyUI's.
"""

from __future__ import annotations

from . import flux, image, sd3, unet, video
from .architecture import Architecture, Encoder
from .text_encoders import CLIP, DECODER, OPEN_CLIP, T5


def sd1() -> Architecture:
    encoder = Encoder("text_encoder", CLIP, "te", "clip_l", ("te1",), ("cond_stage_model.transformer.",))
    return Architecture(unet.SD, "unet", "diffusers", (encoder,))


def sd2() -> Architecture:
    encoder = Encoder("text_encoder", OPEN_CLIP, "te", "clip_h", ("te1",), ("cond_stage_model.model.",))
    return Architecture(unet.SD, "unet", "diffusers", (encoder,))


def _clip_g() -> Encoder:
    return Encoder("text_encoder_2", OPEN_CLIP, "te2", "clip_g", (), ("conditioner.embedders.1.model.",))


def sdxl() -> Architecture:
    first = Encoder("text_encoder", CLIP, "te1", "clip_l", ("te",), ("conditioner.embedders.0.transformer.",))
    return Architecture(unet.SDXL, "unet", "native", (first, _clip_g()))


def refiner() -> Architecture:
    encoder = _clip_g()._replace(checkpoint=("conditioner.embedders.0.model.",))
    return Architecture(unet.REFINER, "unet", "native", (encoder,))


def kolors() -> Architecture:
    return Architecture(unet.KOLORS, "unet", "native")


def _sd3_encoders() -> tuple[Encoder, ...]:
    return (
        Encoder("text_encoder", CLIP, "te1", "clip_l"),
        Encoder("text_encoder_2", OPEN_CLIP, "te2", "clip_g"),
        Encoder("text_encoder_3", T5, "te3", "t5xxl"),
    )


def sd3_medium() -> Architecture:
    return Architecture(sd3.MEDIUM, kohya="native", encoders=_sd3_encoders())


def sd3_large() -> Architecture:
    return Architecture(sd3.LARGE, kohya="native", encoders=_sd3_encoders())


def flux1() -> Architecture:
    # OneTrainer counts T5 as the second encoder, as diffusers does; kohya keeps its number of SD 3.
    clip = Encoder("text_encoder", CLIP, "te1", "clip_l")
    return Architecture(
        flux.FLUX1, kohya="native", encoders=(clip, Encoder("text_encoder_2", T5, "te3", "t5xxl", ("te2",)))
    )


def chroma() -> Architecture:
    encoder = Encoder("text_encoder", T5, "te3", "t5xxl", ("te2", "te1", "te"))
    return Architecture(flux.CHROMA, kohya="native", encoders=(encoder,))


def flux2() -> Architecture:
    return Architecture(flux.FLUX2, kohya="native", encoders=(Encoder("text_encoder", DECODER, "te", "mistral3_24b"),))


def wan() -> Architecture:
    return Architecture(video.WAN, kohya="native")


def _hunyuan_encoders() -> tuple[Encoder, ...]:
    return (Encoder("text_encoder", DECODER, "te1", "llama"), Encoder("text_encoder_2", CLIP, "te2", "clip_l"))


def hunyuan_video() -> Architecture:
    return Architecture(video.HUNYUAN, encoders=_hunyuan_encoders())


def framepack() -> Architecture:
    return Architecture(video.HUNYUAN, kohya="diffusers", encoders=_hunyuan_encoders())


def hunyuan_image() -> Architecture:
    return Architecture(video.HUNYUAN)


def qwen_image() -> Architecture:
    return Architecture(image.QWEN_IMAGE, encoders=(Encoder("text_encoder", DECODER, "te", "qwen25_7b", ("te1",)),))


def z_image() -> Architecture:
    encoder = Encoder("text_encoder", DECODER, "te", "qwen3_4b", ("te1",))
    return Architecture(image.Z_IMAGE, kohya="diffusers", encoders=(encoder,))


def lumina2() -> Architecture:
    encoder = Encoder("text_encoder", DECODER, "te", "gemma2_2b", ("te1",))
    return Architecture(image.LUMINA2, kohya="native", encoders=(encoder,))


def anima() -> Architecture:
    encoder = Encoder("text_encoder", DECODER, "te", "qwen3_06b", ("te1",))
    return Architecture(image.ANIMA, kohya="native", encoders=(encoder,))


def cosmos() -> Architecture:
    return Architecture(image.COSMOS, kohya="native")


def krea2() -> Architecture:
    return Architecture(image.KREA2, encoders=(Encoder("text_encoder", DECODER, "te", "qwen3vl_4b"),))


def ltx() -> Architecture:
    return Architecture(video.LTX, kohya="native")


def hidream() -> Architecture:
    return Architecture(image.HIDREAM)


def pixart() -> Architecture:
    return Architecture(image.PIXART, kohya="diffusers", encoders=(Encoder("text_encoder", T5, "te", "t5xxl"),))


def sana() -> Architecture:
    encoder = Encoder("text_encoder", DECODER, "te", "gemma2_2b")
    return Architecture(image.SANA, kohya="diffusers", encoders=(encoder,))


def auraflow() -> Architecture:
    return Architecture(image.AURAFLOW, kohya="diffusers")


def cogvideox() -> Architecture:
    return Architecture(video.COGVIDEOX, kohya="diffusers", encoders=(Encoder("text_encoder", T5, "te", "t5xxl"),))


def mochi() -> Architecture:
    return Architecture(video.MOCHI, kohya="diffusers")
