"""The classifier: loading it, batching comments for it, and computing it fast.

`pretrained` reads a model, `classifier` gives it a new head, and `labels` finds what its logits mean. `packing` lays
comments out in batches. `padding_free` has a model take packed ones, for which `attention` computes each comment by
itself, with the kernels of `varlen_attention` where a GPU has them. Layers are faster by `first_tokens`, `cpu_layers`,
`half_weights` and `compilation`; `output_layer` keeps the logits in fp32. `scoring` computes the logits of many
comments. `gradients` and `flops` tell which weights learn, and how much arithmetic that is.
"""
