// The LoRA list under txt2img: filled from the host's route, refreshed without a page reload.

function atelierCard(lora) {
    const card = document.createElement('button');
    card.type = 'button';
    card.className = 'card atelier-card';
    card.setAttribute('role', 'listitem');
    card.dataset.name = lora.name;
    card.title = `Add <lora:${lora.name}:${lora.weight}> to the prompt`;
    if (lora.preview) {
        const picture = document.createElement('img');
        picture.src = lora.preview;
        picture.alt = '';
        picture.loading = 'lazy';
        card.append(picture);
    } else {
        const blank = document.createElement('span');
        blank.className = 'atelier-card-blank';
        blank.textContent = 'no preview';
        card.append(blank);
    }
    const name = document.createElement('span');
    name.className = 'name';
    name.textContent = lora.name;
    card.append(name);
    card.addEventListener('click', () => atelierToggleLora(lora));
    return card;
}

// Puts the LoRA's words and tag at the end of the prompt; a second click takes them out again.
function atelierToggleLora(lora) {
    const field = gradioApp().querySelector('#txt2img_prompt textarea');
    const escaped = lora.name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const tag = new RegExp(`\\s*<lora:${escaped}(:[^<>]*)?>`, 'i');
    if (tag.test(field.value)) {
        const words = lora.activation_text;
        field.value = field.value.replace(tag, '').trimEnd();
        if (words && field.value.endsWith(words)) {
            field.value = field.value.slice(0, -words.length).replace(/[\s,]+$/, '');
        }
    } else {
        const words = [field.value.trim()];
        if (lora.activation_text && !field.value.includes(lora.activation_text)) words.push(lora.activation_text);
        field.value = words.filter(Boolean).join(', ') + ` <lora:${lora.name}:${lora.weight}>`;
    }
    field.value = field.value.trimStart();
    updateInput(field);
    field.focus();
}

async function atelierRefreshLoras() {
    const list = gradioApp().querySelector('#txt2img_lora_cards');
    if (!list) return;
    let loras;
    try {
        const answer = await fetch('atelier-host/loras', {cache: 'no-store'});
        loras = (await answer.json()).loras;
    } catch (error) {
        console.error('the LoRA list could not be read:', error);
        return;
    }
    if (loras.length) {
        list.replaceChildren(...loras.map(atelierCard));
    } else {
        const nothing = document.createElement('p');
        nothing.textContent = 'No LoRA yet. Train one, or put .safetensors files into the folder loras/.';
        list.replaceChildren(nothing);
    }
}

onUiLoaded(function() {
    atelierRefreshLoras();
    gradioApp().querySelector('#txt2img_lora_extra_refresh').addEventListener('click', atelierRefreshLoras);
    window.addEventListener('focus', atelierRefreshLoras);
});
